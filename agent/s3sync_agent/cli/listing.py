"""`s3sync status`, `releases`, `history` and `diff`: what S3 holds, for people and as JSON."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from s3sync_agent.bucket import Bucket
from s3sync_agent.cli import render
from s3sync_agent.cli.console import show_warning
from s3sync_agent.cli.site import as_json, on_site, version_argument
from s3sync_agent.errors import FleetError, ReleaseError, StoreError
from s3sync_agent.layout import Site, escape

if TYPE_CHECKING:  # commands import what they do when they do it: --help answers at once
    from s3sync_agent.deploy.releases import Change, StoredRelease
    from s3sync_agent.pointer import HistoryEntry, Pointer


@click.command()
@as_json
@on_site
def status(bucket: Bucket, site: Site, *, as_json: bool) -> None:
    """Which release the pointer wants live, since when, and by whom; what is under way, and the fleet."""
    from s3sync_agent.deploy.releases import read_pointer  # noqa: PLC0415

    found = read_pointer(bucket, site)
    if as_json:
        render.print_json(found[0].pointer if found else None)
    elif found is None:
        click.echo(f"there is no pointer in {site.url}: nothing was promoted yet, or it was removed")
    else:
        lines = _status_lines(found[0].pointer, _now(bucket))
        for label, text in [*lines, ("fleet", _fleet_in_words(bucket, site))]:
            click.echo(f"{label:<12}{escape(text)}")


def _fleet_in_words(bucket: Bucket, site: Site) -> str:
    """The pointer is the news here: that the fleet could not be looked at does not take it away."""
    from s3sync_agent.cli.fleet_table import summary  # noqa: PLC0415
    from s3sync_agent.deploy.fleet import FleetReader  # noqa: PLC0415

    try:
        return summary(FleetReader(bucket, site).look())
    except (StoreError, FleetError) as error:
        return f"cannot be looked at: {error}"


def _status_lines(pointer: Pointer, now: float) -> list[tuple[str, str]]:
    lines = [("site", pointer.site), ("wanted", pointer.active.version)]
    entry = next((e for e in pointer.history if e.promotion_id == pointer.active.promotion_id), None)
    if entry is not None:
        lines.append(("since", _since(entry, now)))
        lines.append(("by", entry.by))
        if entry.reason:
            lines.append(("reason", entry.reason))
    if pointer.active.activate_at is not None:
        lines.append(("live at", pointer.active.activate_at))
    lines.append(("sequence", str(pointer.sequence)))
    lines.append(("baseline", pointer.baseline.version if pointer.baseline else "none"))
    if pointer.prepare is not None:
        lines.append(("prepare", f"{pointer.prepare.version}, being staged everywhere"))
    if pointer.rollout is not None:
        lines.append(("rollout", f"{pointer.rollout.percent} %, the others serve the baseline"))
    if pointer.freeze is not None:
        by = pointer.freeze.by or "somebody"
        lines.append(("frozen", f"by {by} since {pointer.freeze.at}: {pointer.freeze.reason}"))
    return lines


@click.command()
@as_json
@on_site
def releases(bucket: Bucket, site: Site, *, as_json: bool) -> None:
    """The releases in S3, newest first.

    Marked: `active`, `baseline` and `prepare` as the pointer names them; `damaged` (the manifest cannot
    be used), `unfinished` (an upload without a manifest: running, or interrupted), `foreign` (not
    published by this project).
    """
    from s3sync_agent.deploy.releases import list_releases  # noqa: PLC0415

    pointer = _pointer_or_warning(bucket, site)
    found = list_releases(bucket, site)
    if as_json:
        render.print_json([_as_dict(release, pointer) for release in found])
        return
    now = _now(bucket)
    render.print_table(
        ("VERSION", "AGE", "SIZE", "FILES", "COMMIT", "STATE"),
        [
            (
                release.version,
                render.age(now - release.published_at),
                render.size(release.size),
                str(release.files),
                release.commit[:7],
                _role(release, pointer) or ("" if release.state == "whole" else release.state),
            )
            for release in found
        ],
        right=("AGE", "SIZE", "FILES"),
    )
    for release in found:
        if release.fault:
            show_warning(f"{release.version}: {release.fault}")


def _pointer_or_warning(bucket: Bucket, site: Site) -> Pointer | None:
    """The pointer; None, with a warning, when it is damaged: the list is wanted then most of all."""
    from s3sync_agent.deploy.releases import read_pointer  # noqa: PLC0415

    try:
        found = read_pointer(bucket, site)
    except ReleaseError as error:
        show_warning(f"which release is live cannot be said: {error}")
        return None
    return found[0].pointer if found else None


def _role(release: StoredRelease, pointer: Pointer | None) -> str:
    """How the pointer names the release, or ""."""
    if pointer is None:
        return ""
    named = {"active": pointer.active, "baseline": pointer.baseline, "prepare": pointer.prepare}
    return next((role for role, ref in named.items() if ref and ref.version == release.version), "")


def _as_dict(release: StoredRelease, pointer: Pointer | None) -> dict[str, object]:
    import msgspec  # noqa: PLC0415

    described: dict[str, object] = msgspec.to_builtins(release)
    return described | {"role": _role(release, pointer)}


@click.command()
@as_json
@on_site
def history(bucket: Bucket, site: Site, *, as_json: bool) -> None:
    """The latest promotions, newest first."""
    from s3sync_agent.deploy.releases import read_pointer  # noqa: PLC0415

    found = read_pointer(bucket, site)
    entries = found[0].pointer.history if found else ()
    if as_json:
        render.print_json(entries)
        return
    now = _now(bucket)
    render.print_table(
        ("VERSION", "PROMOTED", "BY", "REASON"),
        [(entry.version, _since(entry, now), entry.by, entry.reason) for entry in entries],
    )


@click.command()
@version_argument("old")
@version_argument("new")
@as_json
@on_site
def diff(bucket: Bucket, site: Site, *, old: str, new: str, as_json: bool) -> None:
    """The files that differ between the releases OLD and NEW.

    `+` is new, `-` is gone, `~` has other content.
    """
    from s3sync_agent.deploy.releases import diff as compare  # noqa: PLC0415
    from s3sync_agent.deploy.releases import load_manifest  # noqa: PLC0415

    between = compare(
        load_manifest(bucket, site, old).manifest,
        load_manifest(bucket, site, new).manifest,
    )
    if as_json:
        render.print_json(between)
        return
    for sign, changes in (("+", between.added), ("-", between.removed), ("~", between.changed)):
        for change in changes:
            click.echo(f"{sign} {escape(change.path)}  {_sizes(change)}")
    click.echo(
        f"{len(between.added)} added, {len(between.removed)} removed, {len(between.changed)} changed, "
        f"{between.unchanged} the same"
    )


def _sizes(change: Change) -> str:
    return " → ".join(render.size(count) for count in (change.old_size, change.new_size) if count is not None)


def _since(entry: HistoryEntry, now: float) -> str:
    from s3sync_agent.errors import PointerInvalid  # noqa: PLC0415
    from s3sync_agent.pointer import parse_time  # noqa: PLC0415

    try:
        return f"{entry.promoted_at} ({render.age(now - parse_time(entry.promoted_at))} ago)"
    except PointerInvalid:  # for people only: agents never read it, so it is not checked
        return entry.promoted_at


def _now(bucket: Bucket) -> float:
    """S3's clock, which also made the times that are shown."""
    return bucket.server_time() or time.time()
