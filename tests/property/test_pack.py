from __future__ import annotations

import io

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3sync_agent import pack
from s3sync_agent.errors import DigestMismatch
from s3sync_agent.pack import CHUNK, WINDOW_LOG, FrameReader, compress, order
from s3sync_agent.release import Encoding, FileEntry
from tests.property.strategies import contents, entry_for, frame

zstd = pack.zstd  # type: ignore[attr-defined]  # whichever module this Python has

encodings = st.sampled_from(["zstd", "identity"])


class Bounded(io.BytesIO):
    """Refuses to take more than a file's announced size."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.room = size

    def write(self, data: object, /) -> int:
        written = super().write(data)  # type: ignore[arg-type]  # a buffer, as the reader gives it
        self.room -= written
        assert self.room >= 0, "more was yielded than announced"
        return written


def read(entry: FileEntry, pieces: list[bytes]) -> bytes:
    out = Bounded(entry.size)
    reader = FrameReader(entry, out.write)
    for piece in pieces:
        reader.feed(piece)
    reader.finish()
    return out.getvalue()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """`data` in pieces, some of them empty."""
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


splits = st.lists(st.integers(0, 10_000), max_size=8)


@given(contents, encodings, splits)
def test_any_split_of_the_bytes_gives_the_same_file(
    content: bytes, encoding: Encoding, where: list[int]
) -> None:
    entry = entry_for("f", content, encoding)
    assert read(entry, cut(frame(content, encoding), where)) == content


@given(contents, encodings)
def test_a_byte_at_a_time_gives_the_same_file(content: bytes, encoding: Encoding) -> None:
    stored = frame(content, encoding)
    assert read(entry_for("f", content, encoding), [bytes([byte]) for byte in stored]) == content


@given(contents.filter(bool), encodings, st.integers(0, 10_000), st.integers(1, 255), splits)
def test_a_changed_byte_is_never_taken_for_the_file(
    content: bytes, encoding: Encoding, at: int, difference: int, where: list[int]
) -> None:
    stored = bytearray(frame(content, encoding))
    stored[at % len(stored)] ^= difference
    try:
        found = read(entry_for("f", content, encoding), cut(bytes(stored), where))
    except DigestMismatch:
        return
    assert found == content  # a bit of a frame's header may mean nothing


@given(contents, encodings, st.integers(0, 10_000), splits)
def test_a_frame_that_ends_early_is_refused(
    content: bytes, encoding: Encoding, at: int, where: list[int]
) -> None:
    stored = frame(content, encoding)
    if not stored:
        return
    with pytest.raises(DigestMismatch):
        read(entry_for("f", content, encoding), cut(stored[: at % len(stored)], where))


@given(contents, encodings, st.binary(min_size=1, max_size=20), splits)
def test_a_frame_that_goes_on_after_its_end_is_refused(
    content: bytes, encoding: Encoding, more: bytes, where: list[int]
) -> None:
    with pytest.raises(DigestMismatch):
        read(entry_for("f", content, encoding), cut(frame(content, encoding) + more, where))


@given(st.binary(max_size=300), st.integers(0, 300), splits)
def test_arbitrary_bytes_are_refused_or_are_the_file(stored: bytes, size: int, where: list[int]) -> None:
    entry = msgspec.structs.replace(entry_for("f", b"x" * size, "zstd"), length=len(stored))
    with pytest.raises(DigestMismatch):
        read(entry, cut(stored, where))


@given(st.integers(0, 1000), st.integers(1, 5_000_000))
def test_a_bomb_yields_no_more_than_was_announced(announced: int, excess: int) -> None:
    bomb = frame(bytes(announced + excess), "zstd")
    entry = msgspec.structs.replace(entry_for("f", bytes(announced), "zstd"), length=len(bomb))
    with pytest.raises(DigestMismatch, match="larger than"):
        read(entry, [bomb])


def test_a_window_beyond_the_limit_is_refused_before_memory_is_taken_for_it() -> None:
    content = bytes(2 << WINDOW_LOG)
    options = {
        zstd.CompressionParameter.window_log: WINDOW_LOG + 1,
        zstd.CompressionParameter.content_size_flag: 0,
    }
    compressor = zstd.ZstdCompressor(options=options)
    stored = compressor.compress(content) + compressor.flush()
    entry = FileEntry("f", len(content), "0" * 64, 0, len(stored), "zstd", immutable=False)
    with pytest.raises(DigestMismatch, match="not a readable Zstandard frame"):
        read(entry, [stored])


def test_two_frames_in_a_row_are_not_one_file() -> None:
    stored = frame(b"a" * 100, "zstd") + frame(b"b" * 100, "zstd")
    with pytest.raises(DigestMismatch, match="goes on"):
        read(entry_for("f", b"a" * 100 + b"b" * 100, "zstd"), [stored])


def test_a_large_file_comes_in_pieces_of_bounded_size() -> None:
    content = bytes(10 * CHUNK)
    sizes: list[int] = []
    reader = FrameReader(entry_for("f", content, "zstd"), lambda data: sizes.append(len(data)))
    reader.feed(frame(content, "zstd"))
    reader.finish()
    assert sum(sizes) == len(content)
    assert max(sizes) <= CHUNK


def test_compressing_other_bytes_than_were_announced_fails() -> None:
    with pytest.raises(zstd.ZstdError):
        compress([b"four"], 5, io.BytesIO().write)


digests = st.sampled_from([entry_for("x", bytes([number])).sha256 for number in range(6)])


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=3), digests, max_size=12),
    st.lists(digests, max_size=6, unique=True),
)
def test_the_order_of_a_pack_is_new_by_path_then_known_as_it_was(
    files: dict[str, str], known: list[str]
) -> None:
    former = [
        FileEntry(f"{place}", 1, sha256, place, 1, "identity", immutable=False)
        for place, sha256 in enumerate(known)
    ]
    found = order(list(files.items()), former)
    assert sorted(found) == sorted(files)
    new = [path for path in found if files[path] not in known]
    assert found[: len(new)] == sorted(new)
    ranks = [known.index(files[path]) for path in found[len(new) :]]
    assert ranks == sorted(ranks)
