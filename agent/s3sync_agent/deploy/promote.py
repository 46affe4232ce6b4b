"""Moving the pointer: promote a release to everyone at once, or roll back to one that was live.

Everything is looked at before anything is written, and the pointer is the only thing written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from s3sync_agent.bucket import Bucket
from s3sync_agent.deploy.releases import (
    StoredManifest,
    load_manifest,
    mirrored,
    pointer_etag,
    read_pointer,
)
from s3sync_agent.deploy.write_pointer import who, write_pointer
from s3sync_agent.errors import (
    ConfigError,
    PointerInvalid,
    ReleaseError,
    ReleaseMissing,
    ReleaseRefused,
    StoreUnavailable,
    TooLarge,
)
from s3sync_agent.layout import INDEX, Site, escape
from s3sync_agent.pointer import (
    HistoryEntry,
    Pointer,
    ReleaseRef,
    format_time,
    promoted,
    rollback_target,
    rolled_back,
)
from s3sync_agent.release import Manifest

POLL_INTERVAL = 5.0  # seconds; what agents do unless configured otherwise
ALIVE = 180.0  # seconds for which a heartbeat says that its instance is there
MAX_NOTE_BYTES = 512  # of `by` and `reason`: twenty of both must fit into a pointer

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Promotion:
    """What was written. `overridden` names the objections that `force` went over."""

    pointer: Pointer
    etag: str
    before: Pointer | None
    manifest: Manifest
    overridden: tuple[str, ...] = ()


def promote_now(
    bucket: Bucket,
    site: Site,
    version: str,
    *,
    promotion_id: str,
    by: str,
    reason: str = "",
    force: bool = False,
) -> Promotion:
    """Make `version` the active release for everyone, without the staging phase.

    `promotion_id` is random and new. Raises ReleaseMissing and other ReleaseErrors when the
    release is not whole, ReleaseRefused when a guard objects and `force` is not set,
    PointerConflict when somebody else came first, StoreError when S3 could not be asked.
    """
    _check_notes(by, reason)
    overridden = []
    try:
        found = read_pointer(bucket, site)
        before, etag = (found[0].pointer, found[1]) if found else (None, None)
    except (PointerInvalid, TooLarge) as error:
        overridden.append(_objection(f"the pointer cannot be used: {error}", "replaces it", force=force))
        before, etag = None, pointer_etag(bucket, site)
    stored = _whole_release(bucket, site, version)
    objection = _mass_change(bucket, site, before, stored) if before else _mass_loss(bucket, site, stored)
    if objection:
        overridden.append(_objection(objection, "promotes it all the same", force=force))
    now = _store_clock(bucket)
    ref = _ref(stored, promotion_id, _activate_at(bucket, site, now))
    pointer = promoted(before, site=site.url, ref=ref, by=by, reason=reason, now=now)
    written = _write(bucket, site, pointer, over=etag)
    return Promotion(pointer, written, before, stored.manifest, tuple(overridden))


def rollback(
    bucket: Bucket,
    site: Site,
    version: str | None = None,
    *,
    promotion_id: str,
    by: str,
    reason: str = "",
    tell: Tell,
) -> Promotion:
    """Make a release active again that was live before: `version`, or the one before the live one.

    Looks at nothing of the release being left, so it works however broken that is. `tell` hears
    what will be done before it is. Raises ReleaseRefused when there is nothing to go back to or
    the target is not whole, PointerConflict, StoreError.
    """
    _check_notes(by, reason)
    found = read_pointer(bucket, site)
    if found is None:
        raise ReleaseRefused(
            f"there is no pointer in {site.url}: nothing was promoted, or it was removed",
            hint="`s3sync releases` lists what there is; `s3sync promote VERSION --now` writes a new pointer",
        )
    before, etag = found[0].pointer, found[1]
    target = _target(before, version)
    try:
        stored = _whole_release(bucket, site, target.version, target.manifest_sha256)
    except ReleaseError as error:
        raise ReleaseRefused(
            f"cannot go back to {target.version}: {error}",
            hint="name another one: `s3sync rollback VERSION`; `s3sync history` lists them",
        ) from error
    tell(f"rolling back from {who(before)} to {target.version} of {escape(target.promoted_at)}")
    now = _store_clock(bucket)
    ref = _ref(stored, promotion_id, _activate_at(bucket, site, now))
    why = reason or f"rolled back from {before.active.version}"
    pointer = rolled_back(before, ref=ref, by=by, reason=why, now=now)
    written = _write(bucket, site, pointer, over=etag)
    return Promotion(pointer, written, before, stored.manifest)


def _write(bucket: Bucket, site: Site, pointer: Pointer, *, over: str | None) -> str:
    """Write the pointer, and make sure that nobody pruned the release just then.

    `prune` looks at the pointer after it took a manifest away, this looks at the manifest after it
    wrote the pointer: whatever the order, at least one of the two notices.
    """
    etag = write_pointer(bucket, site, pointer, over=over)
    version = pointer.active.version
    if bucket.head(site.manifest(version)) is None:
        raise ReleaseMissing(
            f"{version} was promoted, but somebody was pruning it at the same time",
            hint=f"`s3sync verify {version}` says whether it is whole; if not, `s3sync rollback`",
        )
    return etag


def _check_notes(by: str, reason: str) -> None:
    for name, text in (("by", by), ("reason", reason)):
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:  # bytes of another encoding, from the command line
            raise ConfigError(f"{name} is not valid UTF-8: {escape(text)!r}") from error
        if size > MAX_NOTE_BYTES:
            raise ConfigError(f"{name} is longer than {MAX_NOTE_BYTES} bytes")


def _objection(what: str, forced: str, *, force: bool) -> str:
    """`what`, when `force` goes over it; raises ReleaseRefused otherwise."""
    if not force:
        raise ReleaseRefused(what, hint=f"--force {forced}")
    return what


def _whole_release(bucket: Bucket, site: Site, version: str, sha256: str | None = None) -> StoredManifest:
    """The manifest of a release whose pack is there too; raises ReleaseError otherwise."""
    stored = load_manifest(bucket, site, version, sha256)
    pack = stored.manifest.pack
    if pack is None:
        raise ReleaseRefused(f"release {version} has no pack", hint="publish it with `s3sync publish`")
    info = bucket.head(site.pack(version, pack.sha256))
    if info is None or info.size != pack.size:
        state = "is missing" if info is None else f"has {info.size} bytes instead of {pack.size}"
        raise ReleaseRefused(
            f"the pack of release {version} {state}", hint="publish the site again under a new version"
        )
    return stored


def _mass_change(bucket: Bucket, site: Site, before: Pointer, new: StoredManifest) -> str:
    """Why this release looks like an accident beside the active one, or ""."""
    active = before.active
    if active.manifest_sha256 == new.sha256:
        return ""
    try:
        old = load_manifest(bucket, site, active.version, active.manifest_sha256).manifest
    except ReleaseError as error:
        return f"{new.manifest.version} cannot be compared with the active release {active.version}: {error}"
    files = {entry.path for entry in new.manifest.files}
    if INDEX not in files and any(entry.path == INDEX for entry in old.files):
        return f"{new.manifest.version} has no {INDEX}, the active release {active.version} has one"
    if 2 * len(files) < len(old.files):
        return (
            f"{new.manifest.version} has less than half of the files of the active release: "
            f"{len(files)}, and {active.version} has {len(old.files)}"
        )
    return ""


def _mass_loss(bucket: Bucket, site: Site, new: StoredManifest) -> str:
    """Why a first promotion looks like an accident beside the files in `current/`, or "". A plain
    pipeline put them there and they are live; the mirror would delete what the release does not have."""
    there = sum(1 for _ in mirrored(bucket, site))
    files = len(new.manifest.files)
    if 2 * files < there:
        return (
            f"{new.manifest.version} has less than half of the files of current/, which are live without a "
            f"pointer: {files}, and current/ has {there}"
        )
    return ""


def _target(before: Pointer, version: str | None) -> HistoryEntry:
    """The history entry to go back to; raises ReleaseRefused."""
    if version is None:
        target = rollback_target(before)
        if target is None:
            raise ReleaseRefused(
                f"no release was live before {before.active.version}",
                hint="`s3sync releases` lists what can be promoted",
            )
        return target
    if version == before.active.version:
        raise ReleaseRefused(f"{version} is the active release already")
    for entry in before.history:
        if entry.version == version:
            return entry
    raise ReleaseRefused(
        f"{version} is not in the history of {before.site}",
        hint=f"`s3sync promote {version} --now` promotes any release",
    )


def _ref(stored: StoredManifest, promotion_id: str, activate_at: str | None) -> ReleaseRef:
    return ReleaseRef(
        version=stored.manifest.version,
        manifest_sha256=stored.sha256,
        manifest_size=stored.size,
        promotion_id=promotion_id,
        activate_at=activate_at,
    )


def _activate_at(bucket: Bucket, site: Site, now: float) -> str | None:
    """Two polls ahead when several instances have to hear of it first, otherwise null: at once."""
    heartbeats = bucket.list(site.fleet)
    alive = sum(listed.last_modified >= now - ALIVE for listed in heartbeats)
    return format_time(now + 2 * POLL_INTERVAL) if alive > 1 else None


def _store_clock(bucket: Bucket) -> float:
    """S3's clock, never this machine's: instances everywhere compare with it."""
    now = bucket.server_time()
    if now is None:
        raise StoreUnavailable("S3 sent no Date with its answers", hint="is this an S3 endpoint?")
    return now
