"""What may be deleted, on an instance and in S3. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from s3sync_agent import layout
from s3sync_agent.pointer import Pointer, rollback_target
from s3sync_agent.release import FileEntry, Manifest


def trees_to_prune(
    on_disk: Collection[str], *, protected: Collection[str], retired: Mapping[str, float], keep: int
) -> list[str]:
    """The release ids an instance can delete, oldest first.

    `protected` (live, previous, named by the pointer) always stays. Of the others the most
    recently retired stay, up to `keep` releases in all; `retired` maps ids to unix seconds.
    """
    others = sorted(set(on_disk) - set(protected), key=lambda id_: (retired.get(id_, 0.0), id_))
    room = max(0, keep - len(set(on_disk) & set(protected)))
    return others[: max(0, len(others) - room)]


class RetainedAsset(msgspec.Struct, frozen=True, gc=False):
    """An immutable file of a release whose tree is gone; it stays until then, in unix seconds."""

    path: str
    size: int
    sha256: str
    until: float

    def entry(self) -> FileEntry:
        return FileEntry(
            path=self.path,
            size=self.size,
            sha256=self.sha256,
            offset=0,
            length=0,
            encoding="identity",
            immutable=True,
        )


def retain(
    before: Iterable[RetainedAsset], leaving: Iterable[Manifest], *, now: float, keep_seconds: float
) -> tuple[RetainedAsset, ...]:
    """What stays reachable when the trees of `leaving` go, sorted by path.

    Pages rendered from a release may be open in browsers for `keep_seconds` after its tree went. One line a
    path, however many releases held it.
    """
    kept = {asset.path: asset for asset in before if asset.until > now}
    for manifest in leaving:
        for entry in manifest.files:
            if entry.immutable:
                kept[entry.path] = RetainedAsset(entry.path, entry.size, entry.sha256, now + keep_seconds)
    return tuple(kept[path] for path in sorted(kept))


def union(manifests: Iterable[Manifest], retained: Iterable[RetainedAsset] = ()) -> dict[str, FileEntry]:
    """The immutable files of all these releases, by path.

    A path whose bytes differ between two of them, or that one of them calls mutable, is not immutable
    whatever it is called, and a path that is a directory elsewhere cannot be a file here: both are
    served from `live`.

    A compressed copy lies beside its original only where one and the same release has both: nginx sends
    the one in place of the other, and a name is no proof that this is right. What is retained counts as no
    release here, because its files may have come from several.
    """
    content: dict[str, str] = {}
    marked: dict[str, FileEntry] = {}
    refused: set[str] = set()
    directories: set[str] = set()
    releases = [manifest.files for manifest in manifests]
    for files in (*releases, [asset.entry() for asset in retained]):
        for entry in files:
            if content.setdefault(entry.path, entry.sha256) != entry.sha256 or not entry.immutable:
                refused.add(entry.path)
            if entry.immutable:
                marked[entry.path] = entry
                directories.update(layout.parents(entry.path))
    found = {path: entry for path, entry in marked.items() if path not in refused and path not in directories}
    for copy in _strangers(found, releases):
        del found[copy]
    return found


def _strangers(found: Mapping[str, FileEntry], releases: Iterable[Sequence[FileEntry]]) -> set[str]:
    """The compressed copies of `found` that no release has beside the original that is in `found`."""
    originals = {path: layout.original_of(path) for path in found}
    strangers = {path: original for path, original in originals.items() if original in found}
    for files in releases:
        if not strangers:  # most sites have no such files
            break
        paths = {entry.path for entry in files}
        strangers = {
            copy: original
            for copy, original in strangers.items()
            if copy not in paths or original not in paths
        }
    return set(strangers)


def releases_to_prune(published: Mapping[str, float], pointer: Pointer, keep: int) -> list[str]:
    """The versions that can be deleted from S3, oldest first; `published` maps versions to unix
    seconds.

    What stays: everything the pointer names, the release a rollback would go to, the `keep` most
    recently promoted and the `keep` most recently published. `keep` is at least 1.
    """
    protected = {ref.version for ref in pointer.named()}
    target = rollback_target(pointer)
    if target is not None:
        protected.add(target.version)
    promoted = dict.fromkeys(entry.version for entry in pointer.history)
    protected.update(list(promoted)[:keep])
    by_age = sorted(published, key=lambda version: (published[version], version))
    protected.update(by_age[-keep:])
    return [version for version in by_age if version not in protected]
