"""Plain mode: judging a `current/` that holds bare files and no pointer. Pure.

A listing shows what is there now, not what somebody is still uploading. The rules that keep half a
push from going live, and the one case that they cannot see, are in docs/contract.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from s3sync_agent import layout

_MD5 = re.compile(r"[0-9a-f]{32}\Z")


class Listed(Protocol):
    """One object of a listing, as the bucket port gives it."""

    @property
    def key(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def etag(self) -> str: ...
    @property
    def last_modified(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Object:
    """One file of `current/`; `path` is relative to it."""

    path: str
    size: int
    etag: str
    last_modified: float


@dataclass(frozen=True, slots=True)
class Tree:
    """What `current/` held at one moment. `marker` is the LastModified of `.s3sync/complete`, `has_pointer`
    tells that this is no plain site at all."""

    objects: tuple[Object, ...]
    fingerprint: str
    newest: float
    marker: float | None
    has_pointer: bool


def read_listing(site: layout.Site, listed: Iterable[Listed]) -> Tree:
    """A listing of `site.current` → Tree. Zero-byte `dir/` keys are skipped.

    Raises UnsafePath for a key that may not become a file.
    """
    objects: list[Object] = []
    marker: float | None = None
    has_pointer = False
    for item in listed:
        path = item.key[len(site.current) :]
        if item.key == site.pointer:
            has_pointer = True
        elif item.key == site.complete_marker:
            marker = item.last_modified
        elif layout.is_reserved(path) or not path or (path.endswith("/") and item.size == 0):
            continue
        else:
            layout.check_path(path)
            objects.append(Object(path, item.size, item.etag, item.last_modified))
    layout.check_tree(item.path for item in objects)
    return Tree(
        objects=tuple(objects),
        fingerprint=fingerprint(objects),
        newest=max((item.last_modified for item in objects), default=0.0),
        marker=marker,
        has_pointer=has_pointer,
    )


def fingerprint(objects: Iterable[Object]) -> str:
    """SHA-256 over the sorted `key etag` lines: the same listing, the same fingerprint."""
    lines = sorted(f"{item.path} {item.etag}\n".encode() for item in objects)
    return hashlib.sha256(b"".join(lines)).hexdigest()


def unsettled_for(tree: Tree, *, now: float, seen_for: float, settle: float) -> float:
    """Seconds until the tree counts as settled, 0 when it does.

    It has to be unchanged for `settle` seconds, by its newest LastModified (`now` is S3's clock)
    and by what we have seen ourselves (`seen_for`): deletions leave no LastModified behind. A
    `complete` marker newer than every file settles it at once.
    """
    if tree.marker is not None and tree.marker >= tree.newest:
        return 0.0
    return max(0.0, settle - (now - tree.newest), settle - seen_for)


def hold_reason(tree: Tree, *, live_files: int | None) -> str:
    """Why the tree must not be served whatever else is true, or ""."""
    if not tree.objects:
        return "current/ is empty"
    if all(item.path != layout.INDEX for item in tree.objects):
        return f"current/ has no {layout.INDEX}"
    if live_files is not None and len(tree.objects) * 2 < live_files:
        return f"current/ shrank from {live_files} files to {len(tree.objects)}"
    return ""


def first_difference(
    current: Sequence[Object], release: Iterator[Listed], prefix: str, *, etags_comparable: bool
) -> str:
    """How `current/` differs from one `releases/<version>/`, or "" when it does not.

    Both are sorted by key; `release` is consumed only up to the first difference. ETags that differ
    say nothing when one is not MD5 (a multipart upload's), or when they are not `etags_comparable` (an
    object encrypted by KMS has an ETag of its own). Then a copy made after its release counts as
    equal, and anything older as what an interrupted copy has not reached.
    """
    theirs = (
        Object(item.key[len(prefix) :], item.size, item.etag, item.last_modified)
        for item in release
        if not _skipped(item, prefix)
    )
    for mine in current:
        other = next(theirs, None)
        if other is None or mine.path < other.path:
            return f"{layout.escape(mine.path)} is only in current/"
        if mine.path > other.path:
            return f"{layout.escape(other.path)} is missing in current/"
        if mine.size != other.size:
            return f"{layout.escape(mine.path)} has another size"
        if mine.etag == other.etag:
            continue
        if etags_comparable and _MD5.match(mine.etag) and _MD5.match(other.etag):
            return f"{layout.escape(mine.path)} has other content"
        if mine.last_modified < other.last_modified:
            return f"{layout.escape(mine.path)} is older than the release"
    left = next(theirs, None)
    return f"{layout.escape(left.path)} is missing in current/" if left else ""


def _skipped(item: Listed, prefix: str) -> bool:
    path = item.key[len(prefix) :]
    return layout.is_reserved(path) or not path or (path.endswith("/") and item.size == 0)
