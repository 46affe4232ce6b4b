"""`s3sync promote`, `rollback`, `abort`, `freeze` and `unfreeze`: the commands that move the pointer."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from s3sync_agent.bucket import Bucket
from s3sync_agent.cli import fleet_options, render
from s3sync_agent.cli.console import show_warning
from s3sync_agent.cli.fleet_options import make_promoter, terminable
from s3sync_agent.cli.site import on_site, version_argument
from s3sync_agent.errors import FleetError, ReleaseError, StoreError
from s3sync_agent.layout import Site, escape

if TYPE_CHECKING:  # commands import what they do when they do it: --help answers at once
    from s3sync_agent.deploy.canary import Steps
    from s3sync_agent.deploy.promote import Promotion
    from s3sync_agent.deploy.promoter import Promoter
    from s3sync_agent.gate import Figures
    from s3sync_agent.pointer import ReleaseRef
    from s3sync_agent.release import Manifest

_no_mirror = click.option("--no-mirror", is_flag=True, help="Leave the files in current/ as they are.")


@click.command()
@version_argument("version")
@click.option("--now", is_flag=True, help="At once, without staging on all instances first.")
@click.option("--force", is_flag=True, help="Go over the guards, and over a pointer that cannot be read.")
@click.option(
    "--expect",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    help="Wait until there are at least N instances.",
)
@click.option(
    "--canary",
    type=fleet_options.Percent(),
    metavar="PERCENT",
    help="First on this share of the instances, and on those that are canaries by configuration.",
)
@click.option(
    "--steps",
    "shares",
    type=fleet_options.Shares(),
    metavar="PERCENT,…",
    help="In several steps: 10,50,100. After the last comes everyone.",
)
@click.option(
    "--bake",
    type=fleet_options.Duration(),
    metavar="TIME",
    help="How long each step is watched before the next.  [default: 5m]",
)
@click.option(
    "--on-failure",
    type=click.Choice(["rollback", "hold"]),
    default="rollback",
    show_default=True,
    help="When an instance reports that it does not work: take it back, or leave it for a look.",
)
@fleet_options.waiting
@_no_mirror
@fleet_options.reason
@on_site
def promote(
    bucket: Bucket,
    site: Site,
    *,
    version: str,
    now: bool,
    force: bool,
    expect: int,
    canary: int | None,
    shares: tuple[int, ...] | None,
    bake: float | None,
    on_failure: str,
    ignore: tuple[str, ...],
    asg: str | None,
    timeout: float,
    no_mirror: bool,
    reason: str,
) -> None:
    """Make VERSION live on every instance, at one instant, or on none.

    First every instance brings it onto its disk and verifies it; nothing that is served changes. When all
    have it, they swap together. One that reports that it cannot ends it (exit 6). One of which nothing is
    heard is waited for, and named when the time is over (exit 6). Interrupted, the same command goes on, and
    `s3sync abort` takes back.

    Refused without --force: a release with less than half of the files of the active one (the first time: of
    those in current/), or without its index.html; and when the active release cannot be read, so that
    nobody can compare.

    When the pointer is written but current/ could not be brought up to date, the release is promoted all
    the same and the command ends with 3.
    """
    from s3sync_agent.cli.watching import shown  # noqa: PLC0415
    from s3sync_agent.deploy import promote as at_once  # noqa: PLC0415
    from s3sync_agent.deploy import two_phase  # noqa: PLC0415

    steps = _steps(canary, shares, bake)

    with terminable(), shown() as show:
        promoter = make_promoter(
            bucket,
            site,
            show,
            reason=reason,
            ignore=ignore,
            asg=asg,
            timeout=timeout,
            expect=expect,
            take_back=on_failure == "rollback",
        )
        if now and steps.shares:
            raise click.UsageError("--now asks nobody, so there is nobody to try it first")
        with _current_follows(promoter, version, no_mirror=no_mirror):
            if now:
                promotion = at_once.promote_now(promoter, version, promotion_id=_new_id(), force=force)
                promotion = two_phase.watched(promoter, promotion)
            else:
                promotion = two_phase.promote(promoter, version, new_id=_new_id, force=force, steps=steps)
    for objection in promotion.overridden:
        show_warning(f"forced: {objection}")
    _tell_and_mirror(promoter, promotion, no_mirror=no_mirror)


@click.command()
@version_argument("version", required=False)
@click.option("--force", is_flag=True, help="Also while promotions are frozen.")
@fleet_options.waiting
@_no_mirror
@fleet_options.reason
@on_site
def rollback(
    bucket: Bucket,
    site: Site,
    *,
    version: str | None,
    force: bool,
    ignore: tuple[str, ...],
    asg: str | None,
    timeout: float,
    no_mirror: bool,
    reason: str,
) -> None:
    """Make VERSION live again, or the release before the live one.

    It is written at once, and then the fleet is watched: ends with 6 when an instance could not follow. A
    second rollback goes further back, not forth. Nothing is read of the release that is left, so this
    works however broken it is.
    """
    from s3sync_agent.cli.watching import shown  # noqa: PLC0415
    from s3sync_agent.deploy import rollback as rolling_back  # noqa: PLC0415

    with terminable(), shown() as show:
        promoter = make_promoter(bucket, site, show, reason=reason, ignore=ignore, asg=asg, timeout=timeout)
        with _current_follows(promoter, version, no_mirror=no_mirror):
            promotion = rolling_back.rollback(promoter, version, promotion_id=_new_id(), force=force)
            promotion = rolling_back.watched(promoter, promotion)
    _tell_and_mirror(promoter, promotion, no_mirror=no_mirror, staged=False)


@click.command()
@_no_mirror
@on_site
def abort(bucket: Bucket, site: Site, *, no_mirror: bool) -> None:
    """Take back the promotion that is under way.

    That is one that is prepared, one that only some instances have, one whose instant is still ahead, and
    one that an instance denies. Whatever everyone serves is left with `s3sync rollback`.
    """
    from s3sync_agent.cli.watching import Lines  # noqa: PLC0415
    from s3sync_agent.deploy import abort as aborting  # noqa: PLC0415

    promoter = make_promoter(bucket, site, Lines())
    taken_back = aborting.abort(promoter)
    click.echo(taken_back.done)
    if taken_back.active_changed and not no_mirror:
        _mirror_active(promoter)


@click.command()
@click.argument("reason")
@on_site
def freeze(bucket: Bucket, site: Site, *, reason: str) -> None:
    """Refuse promotions until `s3sync unfreeze`; REASON is what people are told.

    A promotion that is waiting for the fleet stops, a rollout stays where it is. A rollback is possible with
    --force.
    """
    from s3sync_agent.cli.watching import Lines  # noqa: PLC0415
    from s3sync_agent.deploy import freeze as freezing  # noqa: PLC0415

    pointer = freezing.freeze(make_promoter(bucket, site, Lines(), reason=reason))
    click.echo(f"promotions are frozen (sequence {pointer.sequence}); {pointer.active.version} stays live")


@click.command()
@on_site
def unfreeze(bucket: Bucket, site: Site) -> None:
    """Allow promotions again."""
    from s3sync_agent.cli.watching import Lines  # noqa: PLC0415
    from s3sync_agent.deploy import freeze as freezing  # noqa: PLC0415

    before = freezing.unfreeze(make_promoter(bucket, site, Lines()))
    if before is None or before.freeze is None:
        click.echo("promotions are not frozen")
    else:
        click.echo(
            f"promotions are allowed again; they were frozen by {escape(before.freeze.by)}: "
            f"{escape(before.freeze.reason)}"
        )


def _steps(canary: int | None, shares: tuple[int, ...] | None, bake: float | None) -> Steps:
    from s3sync_agent.deploy.canary import BAKE, Steps  # noqa: PLC0415

    if canary is not None and shares is not None:
        raise click.UsageError("--canary 10% is --steps 10,100: give one of them")
    if shares is None:
        shares = () if canary is None else (canary,)
    shares = tuple(share for share in shares if share < 100)
    if bake is not None and not shares:
        raise click.UsageError("--bake is the time between steps: give --canary or --steps too")
    return Steps(shares, BAKE if bake is None else bake) if shares else Steps()


def _new_id() -> str:
    return secrets.token_hex(16)


def _tell_and_mirror(
    promoter: Promoter, promotion: Promotion, *, no_mirror: bool, staged: bool = True
) -> None:
    pointer, before = promotion.pointer, promotion.before
    version = pointer.active.version
    when = f", live at {pointer.active.activate_at}" if pointer.active.activate_at else ""
    after = f", after {before.active.version}" if before and before.active.version != version else ""
    click.echo(f"promoted {version}{after} (sequence {pointer.sequence}{when})")
    if promotion.figures is not None and promotion.figures.instances:
        click.echo(_in_figures(promoter, promotion.figures, staged=staged))
    if not no_mirror:
        _mirror(promoter.bucket, promoter.site, promotion.pointer.active, promotion.manifest)


def _in_figures(promoter: Promoter, figures: Figures, *, staged: bool) -> str:
    """What this command did: not how long ago somebody staged or swapped what was active before."""
    serve = "instance serves" if figures.instances == 1 else "instances serve"
    served = f"{figures.instances} {serve} {promoter.pointer.active.version}"
    if not promoter.moved_active:
        return served
    parts = []
    if staged:
        median, longest = render.duration(figures.stage_p50), render.duration(figures.stage_max)
        parts.append(f"staged in {median} (median), {longest} (longest)")
    if figures.skew is not None:
        parts.append(f"swapped within {render.duration(figures.skew)}")
    after = f"{served} {render.duration(promoter.elapsed())} after the command"
    return f"{after}: {', '.join(parts)}" if parts else after


@contextmanager
def _current_follows(promoter: Promoter, version: str | None, *, no_mirror: bool) -> Iterator[None]:
    """When the fleet did not take it, `current/` shows what is active then, if that is `version` or moved."""
    try:
        yield
    except FleetError:
        pointer = promoter.pointer if promoter.etag else None  # none was there, and none was written
        shown = pointer is not None and pointer.rollout is None and not no_mirror
        if shown and (promoter.moved_active or promoter.pointer.active.version == version):
            try:
                _mirror_active(promoter)
            except (StoreError, ReleaseError) as error:  # what the fleet said is the news
                show_warning(str(error))
        raise


def _mirror_active(promoter: Promoter) -> None:
    from s3sync_agent.deploy.releases import load_manifest  # noqa: PLC0415

    active = promoter.pointer.active
    stored = load_manifest(promoter.bucket, promoter.site, active.version, active.manifest_sha256)
    _mirror(promoter.bucket, promoter.site, active, stored.manifest)


def _mirror(bucket: Bucket, site: Site, ref: ReleaseRef, manifest: Manifest) -> None:
    """Bring `current/` up to date. The pointer has been moved and stays: a failure here is told as
    what it is, and as S3's (exit code 3), because nothing else can be done than trying again."""
    from s3sync_agent.deploy.mirror import mirror  # noqa: PLC0415

    try:
        mirrored = mirror(bucket, site, ref, manifest)
    except (StoreError, ReleaseError) as error:
        raise StoreError(
            f"{ref.version} is promoted, but current/ was not brought up to date: {error}",
            hint=f"agents deploy all the same; `s3sync promote {ref.version}` tries the mirror again",
        ) from error
    if mirrored.outcome == "left":
        click.echo("current/ was left as it is: the release was published with --no-files", err=True)
    elif mirrored.outcome == "superseded":
        show_warning(f"current/ is not finished: the pointer is at {mirrored.winner} now")
    else:
        counts = f"{render.plural(mirrored.copied, 'object')} copied, {mirrored.deleted} deleted"
        click.echo(f"current/ shows it: {counts}", err=True)
