"""Builds a pack on the local disk: frames in their order, equal content once, bounded memory."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from s3sync_agent.deploy.local import LocalFile, chunks
from s3sync_agent.deploy.progress import Counter, Progress
from s3sync_agent.errors import DiskFull
from s3sync_agent.pack import CHUNK, compress, order, preferred_encoding
from s3sync_agent.release import Encoding, FileEntry, Pack

AHEAD = 64  # small files that are compressed while the ones before them are written


@dataclass(frozen=True, slots=True)
class _Frame:
    offset: int
    length: int
    encoding: Encoding


def build_pack(
    root: Path,
    files: Sequence[LocalFile],
    out: BinaryIO,
    *,
    former: Sequence[FileEntry],
    is_immutable: Callable[[str], bool],
    workers: int,
    progress: Progress,
) -> tuple[Pack, tuple[FileEntry, ...]]:
    """Write the pack of `files`, which lie below `root`, to `out`, a seekable empty file.

    `former` are the files of the release that is live: what it holds comes last, in its pack's
    order. Returns the pack and the entries for the manifest, sorted by path. Raises ReleaseRefused
    when a file is no longer what was hashed, DiskFull when `out` has no room.
    """
    contents = _contents(files, former)
    counter = Counter(progress, "pack", sum(file.size for file in contents))
    writer = _PackWriter(out)
    frames: dict[str, _Frame] = {}
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, len(contents), AHEAD):
            batch = contents[first : first + AHEAD]
            small = {file.sha256: pool.submit(_whole, root, file) for file in batch if file.size <= CHUNK}
            for file in batch:
                offset = writer.size
                if file.sha256 in small:
                    encoding, data = small[file.sha256].result()
                    writer.write(data)
                else:
                    encoding = writer.stream(root, file)
                frames[file.sha256] = _Frame(offset, writer.size - offset, encoding)
                counter.add(file.size)
    entries = [_entry(file, frames[file.sha256], immutable=is_immutable(file.path)) for file in files]
    return writer.finish(), tuple(sorted(entries, key=lambda entry: entry.path))


def _contents(files: Sequence[LocalFile], former: Sequence[FileEntry]) -> list[LocalFile]:
    """One file for each content, in the order of their frames."""
    by_path = {file.path: file for file in files}
    ordered = order([(file.path, file.sha256) for file in files], former)
    first: dict[str, LocalFile] = {}
    for path in ordered:
        first.setdefault(by_path[path].sha256, by_path[path])
    return list(first.values())


def _entry(file: LocalFile, frame: _Frame, *, immutable: bool) -> FileEntry:
    return FileEntry(
        path=file.path,
        size=file.size,
        sha256=file.sha256,
        offset=frame.offset,
        length=frame.length,
        encoding=frame.encoding,
        immutable=immutable,
    )


def _whole(root: Path, file: LocalFile) -> tuple[Encoding, bytes]:
    """The frame of a small file."""
    plain = b"".join(chunks(root, file))
    if preferred_encoding(file.path, file.size) == "zstd":
        pieces: list[bytes] = []
        if compress([plain], file.size, pieces.append) < file.size:
            return "zstd", b"".join(pieces)
    return "identity", plain


class _PackWriter:
    """Appends frames to a file, and can take one back that turned out larger than its content."""

    def __init__(self, out: BinaryIO) -> None:
        self.size = 0
        self._out = out
        self._sha256 = hashlib.sha256()

    def write(self, data: bytes) -> None:
        try:
            self._out.write(data)
        except OSError as error:
            raise _no_room(error) from error
        self._sha256.update(data)
        self.size += len(data)

    def stream(self, root: Path, file: LocalFile) -> Encoding:
        """Append the frame of a file of any size."""
        start, before = self.size, self._sha256.copy()
        if preferred_encoding(file.path, file.size) == "zstd":
            if compress(chunks(root, file), file.size, self.write) < file.size:
                return "zstd"
            self._out.seek(start)
            self._out.truncate()
            self.size, self._sha256 = start, before
        for data in chunks(root, file):
            self.write(data)
        return "identity"

    def finish(self) -> Pack:
        try:
            self._out.flush()
        except OSError as error:
            raise _no_room(error) from error
        return Pack(self.size, self._sha256.hexdigest())


def _no_room(error: OSError) -> Exception:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return error
    return DiskFull(
        f"the temporary folder has no room for the pack: {error.strerror}",
        hint="point TMPDIR at a disk with as much free space as the site is large",
    )
