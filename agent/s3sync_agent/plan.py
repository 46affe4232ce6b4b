"""What has to be fetched from a pack, in which ranges. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from s3sync_agent.release import FileEntry, Manifest

# Reading up to this many unwanted bytes is cheaper than asking once more (a request costs
# 10–30 ms of latency against S3, which is worth about a megabyte of transfer).
MAX_GAP = 256 * 1024
# One request's worth: large enough that latency does not count, small enough that four of them in
# memory do not either.
PART_SIZE = 8 * 1024 * 1024

_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of the pack and every path that has its content."""

    entry: FileEntry
    paths: tuple[str, ...]

    @property
    def end(self) -> int:
        return self.entry.offset + self.entry.length


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes [start, end) of the pack, which hold `frames` in order; bytes between them are skipped."""

    start: int
    end: int
    frames: tuple[Frame, ...]

    def parts(self) -> Iterator[tuple[int, int]]:
        """The span in ranges of at most PART_SIZE, one request each."""
        for start in range(self.start, self.end, PART_SIZE):
            yield start, min(start + PART_SIZE, self.end)


@dataclass(frozen=True, slots=True)
class Plan:
    """How to complete a tree: fetch `spans`, create `empty` files."""

    spans: tuple[Span, ...]
    empty: tuple[FileEntry, ...]

    @property
    def requests(self) -> int:
        return sum(-(-(span.end - span.start) // PART_SIZE) for span in self.spans)

    @property
    def bytes_to_fetch(self) -> int:
        return sum(span.end - span.start for span in self.spans)


def make_plan(manifest: Manifest, have: Container[str]) -> Plan:
    """Plan the fetch of every file of `manifest` whose path is not in `have`."""
    missing = [entry for entry in manifest.files if entry.path not in have]
    return Plan(
        spans=tuple(_join(_frames(entry for entry in missing if entry.length))),
        empty=tuple(entry for entry in missing if not entry.length),
    )


def _frames(entries: Iterable[FileEntry]) -> list[Frame]:
    """Frames in the order of the pack; entries that share one become one."""
    shared: dict[int, list[FileEntry]] = {}
    for entry in entries:
        shared.setdefault(entry.offset, []).append(entry)
    return [Frame(same[0], tuple(entry.path for entry in same)) for _, same in sorted(shared.items())]


def _join(frames: list[Frame]) -> Iterator[Span]:
    run: list[Frame] = []
    for frame in frames:
        if run and frame.entry.offset - run[-1].end > MAX_GAP:
            yield Span(run[0].entry.offset, run[-1].end, tuple(run))
            run = []
        run.append(frame)
    if run:
        yield Span(run[0].entry.offset, run[-1].end, tuple(run))


@dataclass(frozen=True, slots=True)
class Need:
    """What a tree will take from the file system, in bytes and inodes."""

    size: int
    inodes: int


def need(manifest: Manifest, have: Container[str]) -> Need:
    """The space for `manifest`'s tree when the paths in `have` are only linked.

    Counts whole blocks and one block and inode per directory: what ext4 and xfs take at most.
    """
    size = inodes = 0
    for entry in manifest.files:
        if entry.path not in have:
            size += -(-entry.size // _BLOCK) * _BLOCK
            inodes += 1
    directories = directories_of(manifest)
    return Need(size + _BLOCK * (len(directories) + 1), inodes + len(directories) + 1)


def directories_of(manifest: Manifest) -> list[str]:
    """Every directory the files need, parents first."""
    found: dict[str, None] = {}
    for entry in manifest.files:
        directory = entry.path.rpartition("/")[0]
        if directory and directory not in found:
            parts = directory.split("/")
            for depth in range(1, len(parts) + 1):
                found.setdefault("/".join(parts[:depth]))
    return list(found)
