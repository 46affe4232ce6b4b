"""What may be deleted, on an instance and in S3. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

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


def manifests_to_forget(
    known: Collection[str],
    *,
    on_disk: Collection[str],
    retired: Mapping[str, float],
    now: float,
    keep_releases: int,
    keep_seconds: float,
) -> list[str]:
    """The release ids whose assets need not be found any more.

    A manifest outlives its tree for as long as pages rendered from the release may be open in
    browsers: it goes when it is neither among the `keep_releases` newest nor younger than
    `keep_seconds`.
    """
    gone = sorted(set(known) - set(on_disk), key=lambda id_: retired.get(id_, 0.0), reverse=True)
    room = max(0, keep_releases - len(set(on_disk)))
    return [id_ for id_ in gone[room:] if now - retired.get(id_, 0.0) >= keep_seconds]


def union(manifests: Iterable[Manifest]) -> dict[str, FileEntry]:
    """The immutable files of all these releases, by path.

    A path whose bytes differ between two of them is not immutable whatever it is called, and a
    path that is a directory elsewhere cannot be a file here: both are served from `live`.
    """
    content: dict[str, str] = {}
    marked: dict[str, FileEntry] = {}
    differing: set[str] = set()
    directories: set[str] = set()
    for manifest in manifests:
        for entry in manifest.files:
            if content.setdefault(entry.path, entry.sha256) != entry.sha256:
                differing.add(entry.path)
            if entry.immutable:
                marked[entry.path] = entry
                directories.update(layout.parents(entry.path))
    return {
        path: entry for path, entry in marked.items() if path not in differing and path not in directories
    }


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
