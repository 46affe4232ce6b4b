"""What S3 holds: the releases of a site, their manifests, the pointer. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from s3sync_agent import layout, trust
from s3sync_agent.bucket import Bucket, Listed
from s3sync_agent.errors import (
    ObjectMissing,
    PointerInvalid,
    ReleaseError,
    ReleaseMissing,
    StoreUnavailable,
    UnsafePath,
)
from s3sync_agent.layout import Site
from s3sync_agent.pointer import MAX_POINTER_BYTES, Document
from s3sync_agent.release import MAX_MANIFEST_BYTES, Manifest, digest, parse_manifest

_WORKERS = 8

# Garbage in the pointer's place is often larger than a pointer may be. Reading somewhat more than
# the limit lets the parser say "not a pointer" where the store could only say "too large".
POINTER_READ_LIMIT = 16 * MAX_POINTER_BYTES

_PUT_RIGHT = "put it right with `s3sync promote VERSION --now --force`"

State = Literal["whole", "damaged", "unfinished", "foreign"]


@dataclass(frozen=True, slots=True)
class StoredRelease:
    """One folder below `releases/`.

    `state`: "whole" has a manifest that obeys the contract; "damaged" has one that does not
    (`fault` says why); "unfinished" has a pack or part of one but no manifest, so it is no release
    yet; "foreign" was put there by something else (a plain pipeline). `published_at` is unix
    seconds by S3. `files` and `size` (bytes) come from the manifest; without one they count the
    objects found.
    """

    version: str
    state: State
    published_at: float
    files: int
    size: int
    commit: str = ""
    ref: str = ""
    created_at: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A parsed manifest with the identity of its stored bytes."""

    manifest: Manifest
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs between two releases; sizes in bytes, None where it does not exist."""

    path: str
    old_size: int | None
    new_size: int | None


@dataclass(frozen=True, slots=True)
class Difference:
    """What is between two releases, each part sorted by path."""

    added: tuple[Change, ...]
    removed: tuple[Change, ...]
    changed: tuple[Change, ...]
    unchanged: int


def list_releases(bucket: Bucket, site: Site) -> list[StoredRelease]:
    """Every folder below `releases/`, newest first. Raises StoreError, never for one bad folder."""
    prefixes = bucket.list_prefixes(site.releases)
    with ThreadPoolExecutor(_WORKERS) as pool:
        described = pool.map(lambda prefix: _describe(bucket, site, prefix), prefixes)
        found = [release for release in described if release is not None]
    return sorted(found, key=lambda release: (-release.published_at, release.version))


def _describe(bucket: Bucket, site: Site, prefix: str) -> StoredRelease | None:
    """None for a folder that holds nothing: some stores go on listing what was emptied."""
    version = prefix.removeprefix(site.releases).rstrip("/")
    if layout.VERSION_PATTERN.match(version):
        own = {listed.key: listed for listed in bucket.list(f"{prefix}{layout.RESERVED}/")}
        written = own.get(site.manifest(version))
        if written is not None:
            return _from_manifest(bucket, site, version, written)
        state: State = "unfinished" if own else "foreign"
    else:
        state = "foreign"
    objects = list(bucket.list(prefix))
    if not objects:
        return None
    return StoredRelease(
        version=version,
        state=state,
        published_at=max(listed.last_modified for listed in objects),
        files=sum(not listed.key.endswith("/") for listed in objects),
        size=sum(listed.size for listed in objects),
    )


def _from_manifest(bucket: Bucket, site: Site, version: str, written: Listed) -> StoredRelease:
    try:
        manifest = load_manifest(bucket, site, version).manifest
    except ReleaseError as error:
        return StoredRelease(version, "damaged", written.last_modified, files=0, size=0, fault=str(error))
    return StoredRelease(
        version=version,
        state="whole",
        published_at=written.last_modified,
        files=len(manifest.files),
        size=manifest.total_size,
        commit=manifest.source.commit,
        ref=manifest.source.ref,
        created_at=manifest.created_at,
    )


def load_manifest(bucket: Bucket, site: Site, version: str, sha256: str | None = None) -> StoredManifest:
    """The manifest of `version`; with `sha256` the stored bytes must have that digest.

    Raises ReleaseMissing, ManifestInvalid, DigestMismatch, UnsafePath; StoreError when S3 could
    not be asked.
    """
    layout.check_version(version)
    try:
        raw = bucket.get(site.manifest(version), limit=MAX_MANIFEST_BYTES).body
    except ObjectMissing as error:
        raise ReleaseMissing(
            f"no release {version} in {site.url}: it has no manifest",
            hint="`s3sync releases` lists what there is; an interrupted publish can be run again",
        ) from error
    manifest = parse_manifest(raw, sha256=sha256, version=version)
    return StoredManifest(manifest, digest(raw), len(raw))


def read_pointer(bucket: Bucket, site: Site) -> tuple[Document, str] | None:
    """The pointer and its ETag, or None when nothing was ever promoted here.

    Obeys every rule that an agent without history would check. Raises PointerInvalid, TooLarge;
    StoreError when S3 could not be asked.
    """
    try:
        fetched = bucket.get(site.pointer, limit=POINTER_READ_LIMIT)
        return trust.accept(fetched.body, site=site.url, accepted=None), fetched.etag
    except ObjectMissing:
        return None
    except UnsafePath as error:  # its own hint is for people who choose a name
        raise PointerInvalid(f"pointer cannot be read: {error}", hint=_PUT_RIGHT) from error
    except ReleaseError as error:
        error.hint = error.hint or _PUT_RIGHT
        raise


def pointer_etag(bucket: Bucket, site: Site) -> str | None:
    """The ETag of whatever is in the pointer's place, readable or not; None when it is free."""
    info = bucket.head(site.pointer)
    return info.etag if info else None


def store_clock(bucket: Bucket) -> float:
    """S3's clock, in unix seconds, never this machine's: instances everywhere compare with it.

    It is known from the first answer of S3 on.
    """
    now = bucket.server_time()
    if now is None:
        raise StoreUnavailable("S3 sent no Date with its answers", hint="is this an S3 endpoint?")
    return now


def browsable(bucket: Bucket, site: Site, version: str) -> Iterator[tuple[str, Listed]]:
    """The release's files as single objects: (path, object) pairs, without `.s3sync/`."""
    return _files_below(bucket, site.release(version))


def mirrored(bucket: Bucket, site: Site) -> Iterator[tuple[str, Listed]]:
    """The files below `current/`: (path, object) pairs, without `.s3sync/`."""
    return _files_below(bucket, site.current)


def _files_below(bucket: Bucket, prefix: str) -> Iterator[tuple[str, Listed]]:
    for listed in bucket.list(prefix):
        path = listed.key.removeprefix(prefix)
        if path and not path.endswith("/") and not layout.is_reserved(path):
            yield path, listed


def diff(old: Manifest, new: Manifest) -> Difference:
    """What changes for visitors from `old` to `new`: content decides, not time or place. Pure."""
    before = {entry.path: entry for entry in old.files}
    after = {entry.path: entry for entry in new.files}
    both = sorted(before.keys() & after.keys())
    changed = tuple(
        Change(path, before[path].size, after[path].size)
        for path in both
        if before[path].sha256 != after[path].sha256
    )
    return Difference(
        added=tuple(Change(path, None, after[path].size) for path in sorted(after.keys() - before.keys())),
        removed=tuple(Change(path, before[path].size, None) for path in sorted(before.keys() - after.keys())),
        changed=changed,
        unchanged=len(both) - len(changed),
    )
