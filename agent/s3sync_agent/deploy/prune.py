"""Deleting old releases from S3: never one that the pointer names or a rollback would want."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from s3sync_agent.bucket import Bucket
from s3sync_agent.deploy.releases import list_releases, read_pointer
from s3sync_agent.errors import ObjectMissing, ReleaseRefused, StoreError
from s3sync_agent.layout import Site
from s3sync_agent.pointer import Pointer
from s3sync_agent.release import MAX_MANIFEST_BYTES, digest
from s3sync_agent.retention import releases_to_prune


@dataclass(frozen=True, slots=True)
class Pruned:
    """One release that was, or with `dry_run` would be, deleted. `size` is what it occupied in S3,
    in bytes."""

    version: str
    published_at: float
    objects: int
    size: int


def prune(bucket: Bucket, site: Site, *, keep: int, dry_run: bool = False) -> Iterator[Pruned]:
    """Delete old releases, oldest first, each reported when it is gone. The rule is
    `retention.releases_to_prune`; folders without a manifest are somebody's work in progress or
    not ours, and stay.

    The manifest goes first, so that a release is never there in part. The pointer is read again
    before each one: somebody may be promoting. Raises ReleaseRefused without a pointer, StoreError.
    """
    published = {
        release.version: release.published_at
        for release in list_releases(bucket, site)
        if release.state in ("whole", "damaged")
    }
    for version in releases_to_prune(published, _pointer(bucket, site), keep):
        if version not in releases_to_prune(published, _pointer(bucket, site), keep):
            continue
        objects = {listed.key: listed.size for listed in bucket.list(site.release(version))}
        if not dry_run:
            if not _take_back(bucket, site, version):
                continue
            bucket.delete(key for key in objects if key != site.manifest(version))
        yield Pruned(version, published[version], len(objects), sum(objects.values()))


def _take_back(bucket: Bucket, site: Site, version: str) -> bool:
    """Delete the manifest: the release exists no longer. False, and the manifest is back, when
    somebody promoted the release before it was gone (see `promote`); False, too, when another prune
    was faster. The manifest is also put back when nobody can tell whether it is needed."""
    key = site.manifest(version)
    try:
        raw = bucket.get(key, limit=MAX_MANIFEST_BYTES).body
    except ObjectMissing:
        return False
    try:
        bucket.delete([key])
        needed = any(ref.version == version for ref in _pointer(bucket, site).named())
    except BaseException:
        with suppress(StoreError):  # also when it never went; what failed first is what is told
            _put_back(bucket, key, raw)
        raise
    if needed:
        _put_back(bucket, key, raw)
    return not needed


def _put_back(bucket: Bucket, key: str, raw: bytes) -> None:
    bucket.put(key, raw, size=len(raw), sha256=digest(raw), content_type="application/json", create_only=True)


def _pointer(bucket: Bucket, site: Site) -> Pointer:
    found = read_pointer(bucket, site)
    if found is None:
        raise ReleaseRefused(
            f"nothing is pruned in {site.url}: there is no pointer to say which releases are needed",
            hint="promote a release first: `s3sync promote VERSION`",
        )
    return found[0].pointer
