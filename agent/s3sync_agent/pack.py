"""The pack: all files of a release in one object, each compressed on its own. Pure.

A frame is either the file's bytes (`identity`) or one Zstandard frame whose window is at most
2^23 bytes, on both sides: a reader never needs more memory than that for any file.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from s3sync_agent import layout
from s3sync_agent.errors import DigestMismatch
from s3sync_agent.release import Encoding, FileEntry

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

WINDOW_LOG = 23
LEVEL = 3
CHUNK = 256 * 1024

# Formats that are compressed already: trying again costs time and gains nothing.
_COMPRESSED = {
    "7z", "avif", "br", "bz2", "flac", "gif", "gz", "heic", "jpeg", "jpg", "jxl", "m4a", "mov", "mp3",
    "mp4", "ogg", "opus", "png", "rar", "webm", "webp", "woff", "woff2", "xz", "zip", "zst",
}  # fmt: skip

Write = Callable[[bytes], object]


def preferred_encoding(path: str, size: int) -> Encoding:
    """`identity` where compression cannot pay."""
    suffix = path.rpartition(".")[2].lower()
    return "identity" if size < 64 or suffix in _COMPRESSED else "zstd"


def compress(chunks: Iterable[bytes], size: int, write: Write) -> int:
    """Write `chunks` (`size` bytes in all) as one frame; returns the frame's length.

    Raises zstd's own error when the chunks are not exactly `size` bytes.
    """
    compressor = zstd.ZstdCompressor(
        options={
            zstd.CompressionParameter.compression_level: LEVEL,
            zstd.CompressionParameter.window_log: max(10, min(WINDOW_LOG, size.bit_length())),
        }
    )
    compressor.set_pledged_input_size(size)
    length = 0
    for chunk in chunks:
        frame = compressor.compress(chunk)
        length += len(frame)
        write(frame)
    frame = compressor.flush()
    write(frame)
    return length + len(frame)


def order(files: Sequence[tuple[str, str]], former: Iterable[FileEntry]) -> list[str]:
    """The paths of `files` ((path, sha256) pairs) in the order their frames should have.

    First what `former` does not hold, by path; then what it does, in the order of its pack. An
    instance that has the former release then needs one range of the new pack.
    """
    rank: dict[str, int] = {}
    for entry in former:
        rank.setdefault(entry.sha256, entry.offset)
    new = sorted(path for path, sha256 in files if sha256 not in rank)
    carried = sorted(((rank[sha256], path) for path, sha256 in files if sha256 in rank))
    return new + [path for _, path in carried]


class FrameReader:
    """Turns the bytes of one frame into the file they stand for, in pieces.

    Feed it the frame's bytes as they arrive, then call `finish`. Never yields more than
    `entry.size` bytes in all, whatever the frame says about itself. Raises DigestMismatch.
    """

    def __init__(self, entry: FileEntry, write: Write) -> None:
        self._entry = entry
        self._write = write
        self._left = entry.size
        self._hash = hashlib.sha256()
        self._zstd = (
            zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG})
            if entry.encoding == "zstd"
            else None
        )

    def feed(self, data: bytes | memoryview) -> None:
        if self._zstd is None:
            self._take(data)
            return
        try:
            self._inflate(self._zstd, data)
        except zstd.ZstdError as error:
            raise self._wrong(f"is not a readable Zstandard frame ({error})") from error

    def _inflate(self, decompressor: zstd.ZstdDecompressor, data: bytes | memoryview) -> None:
        if decompressor.eof:
            if data:
                raise self._wrong("goes on after its end")
            return
        # One byte more than is left shows a frame that would grow beyond its declared size.
        self._take(decompressor.decompress(data, max_length=min(CHUNK, self._left + 1)))
        while not decompressor.needs_input and not decompressor.eof:
            self._take(decompressor.decompress(b"", max_length=min(CHUNK, self._left + 1)))
        if decompressor.unused_data:
            raise self._wrong("goes on after its end")

    def _take(self, data: bytes | memoryview) -> None:
        if len(data) > self._left:
            raise self._wrong(f"is larger than the {self._entry.size} bytes announced")
        self._left -= len(data)
        self._hash.update(data)
        self._write(data)  # type: ignore[arg-type]  # a memoryview is written like bytes

    def finish(self) -> None:
        """The frame has ended: size and SHA-256 must be those of the entry."""
        if self._left or (self._zstd is not None and not self._zstd.eof):
            raise self._wrong(f"ends {self._left} bytes early")
        if self._hash.hexdigest() != self._entry.sha256:
            raise self._wrong("does not have the SHA-256 the manifest announces")

    def _wrong(self, what: str) -> DigestMismatch:
        return DigestMismatch(
            f"content of {layout.escape(self._entry.path)!r} {what}",
            hint="the stored release is damaged; `s3sync verify VERSION` lists every fault",
        )
