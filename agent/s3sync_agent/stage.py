"""Staging: a release onto this instance's disk, beside the one that is live, and verified."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from s3sync_agent import failpoints, layout, plain, retention
from s3sync_agent.errors import DiskFull, ManifestInvalid, ObjectMissing, ReleaseMissing
from s3sync_agent.fetch import fetch_objects, fetch_pack
from s3sync_agent.instance import Instance
from s3sync_agent.machine import Step
from s3sync_agent.plan import Need, directories_of, make_plan, need
from s3sync_agent.pointer import ReleaseRef
from s3sync_agent.release import (
    MAX_MANIFEST_BYTES,
    FileEntry,
    Manifest,
    Source,
    digest,
    encode_manifest,
    new_manifest,
    parse_manifest,
)
from s3sync_agent.webroot import Inventory, disk_errors
from s3sync_agent.webroot.staging import Staging

# Left free, so that links, state and repairs can still be written when the disk is as good as full.
RESERVE_BYTES = 2 * 1024 * 1024
RESERVE_INODES = 64

# Makes room by removing old releases; called before a release is refused for lack of it.
MakeRoom = Callable[[], None]


def stage_release(instance: Instance, ref: ReleaseRef, make_room: MakeRoom) -> None:
    """Bring the release that the pointer names onto the disk.

    Returns when `ref.id` is complete. Raises ReleaseError when what S3 holds is wrong, StagingError when
    this disk cannot take it, StoreError; nothing that is served has changed then.
    """
    raw = _fetch_manifest(instance, ref)
    manifest = parse_manifest(raw, sha256=ref.manifest_sha256, version=ref.version)
    if manifest.pack is None:
        raise ManifestInvalid(f"release {ref.version} names no pack")
    started = instance.clock.monotonic()
    instance.step(Step.STAGE)
    have = _fit(instance, ref.id, manifest, lambda: _on_disk(instance, manifest.files), make_room)
    plan = make_plan(manifest, have)
    figures = {
        "release": ref.id,
        "files": len(manifest.files),
        "linked": len(have),
        "bytes": plan.bytes_to_fetch,
        "requests": plan.requests,
    }
    instance.reporter.event("stage.begin", **figures)
    key = instance.settings.site.pack(ref.version, manifest.pack.sha256)
    with _tree(instance, ref.id, manifest) as (staging, directories):
        _link_known(instance, staging, have)
        fetch_pack(instance.bucket, key, plan, staging, instance.beat)
        failpoints.reach("stage.fetched")
        _commit(instance, staging, ref.id, raw=raw, manifest=manifest, directories=directories)
    seconds = round(instance.clock.monotonic() - started, 3)
    instance.reporter.event("stage.done", **figures, seconds=seconds)


def stage_plain(
    instance: Instance,
    tree: plain.Tree,
    *,
    version: str,
    make_room: MakeRoom,
    unchanged: Callable[[], None],
) -> str:
    """Bring the files of `current/` onto the disk as a release of our own making; returns its id.

    `unchanged` lists once more before anything counts, and raises SourceChanged when it differs.
    """
    started = instance.clock.monotonic()
    instance.step(Step.STAGE)
    known = _known_objects(instance)
    entries = {
        item.path: entry
        for item in tree.objects
        if (entry := known.get((item.path, item.etag, item.size))) is not None
    }
    draft = _plain_manifest(tree, version, {})
    have = _fit(instance, version, draft, lambda: _on_disk(instance, entries.values()), make_room)
    missing = [item for item in tree.objects if item.path not in have]
    figures = {
        "release": version,
        "files": len(tree.objects),
        "linked": len(have),
        "bytes": sum(item.size for item in missing),
        "requests": len(missing),
    }
    instance.reporter.event("stage.begin", **figures)
    with _tree(instance, version, draft) as (staging, directories):
        _link_known(instance, staging, have)
        prefix = instance.settings.site.current
        digests = fetch_objects(instance.bucket, prefix, missing, staging, instance.beat)
        failpoints.reach("stage.fetched")
        unchanged()
        digests.update({path: entries[path].sha256 for path in have})
        manifest = _plain_manifest(tree, version, digests)
        raw = encode_manifest(manifest)
        release = layout.release_id(version, digest(raw))
        if release in instance.webroot.complete():
            instance.webroot.discard(staging)
        else:
            _commit(instance, staging, release, raw=raw, manifest=manifest, directories=directories)
    seconds = round(instance.clock.monotonic() - started, 3)
    instance.reporter.event("stage.done", **figures | {"release": release}, seconds=seconds)
    return release


def _fetch_manifest(instance: Instance, ref: ReleaseRef) -> bytes:
    if ref.manifest_size > MAX_MANIFEST_BYTES:
        raise ManifestInvalid(f"the manifest of {ref.version} is said to have {ref.manifest_size} bytes")
    key = instance.settings.site.manifest(ref.version)
    try:
        return instance.bucket.get(key, limit=ref.manifest_size).body
    except ObjectMissing as error:
        raise ReleaseMissing(
            f"release {ref.version} has no manifest in {instance.settings.site.url}",
            hint="was it pruned? promote a release that `s3sync releases` lists",
        ) from error


def _on_disk(instance: Instance, entries: Collection[FileEntry]) -> dict[str, str]:
    """Those of `entries` that are here already: path → where."""
    inventory = _inventory(instance, {entry.sha256 for entry in entries})
    have = {}
    for entry in entries:
        instance.beat()
        place = inventory.pristine(entry)
        if place is not None:
            have[entry.path] = place
    return have


def _inventory(instance: Instance, wanted: Collection[str]) -> Inventory:
    """Where the content of `wanted` (digests) is on this instance: in trees, and among the assets."""
    webroot = instance.webroot
    inventory = Inventory()
    for release, manifest in webroot.manifests().items():
        inventory.add(webroot.paths.release(release), manifest.files, wanted)
    retained = (asset.entry() for asset in webroot.retained())
    inventory.add(webroot.paths.assets, retained, wanted)
    return inventory


def _known_objects(instance: Instance) -> dict[tuple[str, str, int], FileEntry]:
    """What earlier plain releases were made from: the same key with the same ETag is the same file."""
    return {
        (entry.path, entry.etag, entry.size): entry
        for manifest in instance.webroot.manifests().values()
        for entry in manifest.files
        if entry.etag
    }


def _fit(
    instance: Instance,
    name: str,
    manifest: Manifest,
    find: Callable[[], dict[str, str]],
    make_room: MakeRoom,
) -> dict[str, str]:
    """What of `manifest` can be linked, once it is sure that the rest fits on the disk.

    Refuses before anything is touched. Raises DiskFull.
    """
    have = find()
    if _shortage(instance, need(manifest, have)):
        make_room()
        have = find()  # what was pruned can no longer be linked
    shortage = _shortage(instance, need(manifest, have))
    if shortage:
        raise DiskFull(
            f"{name} does not fit on {instance.settings.state_dir}: {shortage}",
            hint="free space there, enlarge the volume, or lower keep_releases",
        )
    return have


def _shortage(instance: Instance, needed: Need) -> str:
    space = instance.webroot.space()
    if needed.size + RESERVE_BYTES > space.size:
        return f"it needs {_mebibytes(needed.size)} of bytes, {_mebibytes(space.size)} are free"
    if space.inodes is not None and needed.inodes + RESERVE_INODES > space.inodes:
        return f"it needs {needed.inodes:,} inodes, {space.inodes:,} are free"
    return ""


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


@contextmanager
def _tree(instance: Instance, name: str, manifest: Manifest) -> Iterator[tuple[Staging, list[str]]]:
    """A new tree with its directories; gone again when anything goes wrong."""
    directories = directories_of(manifest)
    with disk_errors(name):
        staging = instance.webroot.stage(name)
        try:
            staging.make_directories(directories)
            failpoints.reach("stage.begin")
            yield staging, directories
        except BaseException:
            instance.webroot.discard(staging)
            raise


def _link_known(instance: Instance, staging: Staging, have: dict[str, str]) -> None:
    for path, place in have.items():
        instance.beat()
        staging.link(path, place)
    failpoints.reach("stage.linked")


def _commit(
    instance: Instance,
    staging: Staging,
    release: str,
    *,
    raw: bytes,
    manifest: Manifest,
    directories: list[str],
) -> None:
    """The tree becomes a release; its immutable files can be fetched before any page names them."""
    sync_assets(instance, staged=(staging, manifest))
    failpoints.reach("stage.assets")
    instance.webroot.commit(staging, release, raw, directories)


def sync_assets(instance: Instance, staged: tuple[Staging, Manifest] | None = None) -> None:
    """Make `assets/` the union of what is kept here, including a tree about to be committed."""
    webroot = instance.webroot
    manifests = webroot.manifests()
    known = [*manifests.values(), *([staged[1]] if staged else [])]
    wanted = retention.union(known, webroot.retained())
    digests = {entry.sha256 for entry in wanted.values()}
    inventory = Inventory()
    if staged is not None:
        inventory.add(staged[0].root, staged[1].files, digests)
    for release, manifest in manifests.items():
        inventory.add(webroot.paths.release(release), manifest.files, digests)
    webroot.sync_assets(wanted, inventory.pristine)


def _plain_manifest(tree: plain.Tree, version: str, digests: dict[str, str]) -> Manifest:
    """A manifest in the shape of a published one; `digests` may lack files that are not read yet."""
    created = datetime.fromtimestamp(tree.newest, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    files = tuple(
        FileEntry(
            path=item.path,
            size=item.size,
            sha256=digests.get(item.path, ""),
            offset=0,
            length=0,
            encoding="identity",
            immutable=layout.is_immutable(item.path),
            etag=item.etag,
        )
        for item in tree.objects
    )
    return new_manifest(version=version, created_at=created, source=Source(), pack=None, files=files)
