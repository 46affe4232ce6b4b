"""What is looked at before the pointer is moved, and what makes a promotion look like an accident."""

from __future__ import annotations

from s3sync_agent.bucket import Bucket
from s3sync_agent.deploy.releases import StoredManifest, load_manifest, mirrored
from s3sync_agent.errors import ConfigError, ReleaseError, ReleaseRefused
from s3sync_agent.layout import INDEX, Site, escape
from s3sync_agent.pointer import Pointer

MAX_NOTE_BYTES = 512  # of `by` and `reason`: twenty of both must fit into a pointer


def check_notes(by: str, reason: str) -> None:
    """Raises ConfigError for what does not fit into a pointer."""
    for name, text in (("by", by), ("reason", reason)):
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:  # bytes of another encoding, from the command line
            raise ConfigError(f"{name} is not valid UTF-8: {escape(text)!r}") from error
        if size > MAX_NOTE_BYTES:
            raise ConfigError(f"{name} is longer than {MAX_NOTE_BYTES} bytes")


def objection(what: str, forced: str, *, force: bool) -> str:
    """`what`, when `force` goes over it; raises ReleaseRefused otherwise."""
    if not force:
        raise ReleaseRefused(what, hint=f"--force {forced}")
    return what


def refuse_while_frozen(pointer: Pointer) -> None:
    """Raises ReleaseRefused with who froze the site, when and why."""
    freeze = pointer.freeze
    if freeze is not None:
        raise ReleaseRefused(
            f"promotions are frozen by {escape(freeze.by) or 'somebody'} since {escape(freeze.at)}: "
            f"{escape(freeze.reason)}",
            hint="`s3sync unfreeze` lifts it; a rollback is possible with --force",
        )


def whole_release(bucket: Bucket, site: Site, version: str, sha256: str | None = None) -> StoredManifest:
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


def looks_like_an_accident(bucket: Bucket, site: Site, before: Pointer | None, new: StoredManifest) -> str:
    """Why this release does beside what is live, or ""."""
    return _mass_change(bucket, site, before, new) if before else _mass_loss(bucket, site, new)


def _mass_change(bucket: Bucket, site: Site, before: Pointer, new: StoredManifest) -> str:
    """Beside the active release."""
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
    """Beside the files in `current/`, when there is no pointer. A plain pipeline put them there and they are
    live; the mirror would delete what the release does not have."""
    there = sum(1 for _ in mirrored(bucket, site))
    files = len(new.manifest.files)
    if 2 * files < there:
        return (
            f"{new.manifest.version} has less than half of the files of current/, which are live without a "
            f"pointer: {files}, and current/ has {there}"
        )
    return ""
