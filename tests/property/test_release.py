from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3sync_agent.errors import DigestMismatch, ManifestInvalid, ReleaseError, UnsafePath
from s3sync_agent.release import (
    FileEntry,
    Manifest,
    digest,
    encode_manifest,
    parse_manifest,
)
from tests.property.strategies import entry_for, json_values, manifest_of, release_of, releases, unsafe_paths

PAGES = {"a/index.html": b"a" * 100, "b.css": b"b" * 100, "index.html": b"c" * 100}


def _fits(value: object) -> bool:
    """Whether JSON can hold it: no surrogates, no integers beyond 64 bits."""
    with contextlib.suppress(OverflowError, UnicodeEncodeError):
        msgspec.json.encode(value)
        return True
    return False


@given(releases())
def test_a_manifest_survives_storing(release: tuple[Manifest, bytes, dict[str, bytes]]) -> None:
    manifest, stored, files = release
    raw = encode_manifest(manifest)
    found = parse_manifest(raw, sha256=digest(raw), version="v1")
    assert found == manifest
    assert encode_manifest(found) == raw
    assert found.total_size == sum(map(len, files.values()))
    assert found.pack is not None
    assert found.pack.size == len(stored)


@given(st.binary(max_size=400))
def test_garbage_is_only_ever_refused(raw: bytes) -> None:
    with pytest.raises(ReleaseError):
        parse_manifest(raw)


@given(json_values.filter(_fits))
def test_other_json_is_only_ever_refused(value: object) -> None:
    with pytest.raises(ReleaseError):
        parse_manifest(msgspec.json.encode(value))


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, object]:
    """A good manifest with anything in one place."""
    document: dict[str, Any] = msgspec.to_builtins(release_of(PAGES)[0])
    place = draw(st.sampled_from([document, document["pack"], document["source"], *document["files"]]))
    place[draw(st.sampled_from(sorted(place)))] = draw(json_values.filter(_fits))
    return document


@given(mutated())
def test_a_manifest_with_anything_in_one_place_is_refused_or_obeys_every_rule(document: object) -> None:
    try:
        manifest = parse_manifest(msgspec.json.encode(document))
    except ReleaseError:
        return
    files = manifest.files
    assert [entry.path for entry in files] == sorted({entry.path for entry in files})
    size = manifest.pack.size if manifest.pack else 0
    assert all(0 <= entry.offset <= entry.offset + entry.length <= size for entry in files)


@given(st.integers(0, 5000), st.integers(0, 7))
def test_one_flipped_bit_is_seen_by_the_digest_and_never_crashes_the_reader(at: int, bit: int) -> None:
    raw = bytearray(encode_manifest(release_of(PAGES)[0]))
    sha256 = digest(bytes(raw))
    raw[at % len(raw)] ^= 1 << bit
    with pytest.raises(DigestMismatch):
        parse_manifest(bytes(raw), sha256=sha256)
    with contextlib.suppress(ReleaseError):
        parse_manifest(bytes(raw))


@given(unsafe_paths.filter(_fits))
def test_a_manifest_with_an_unsafe_path_is_refused(path: str) -> None:
    manifest = manifest_of([entry_for(path, b"")])
    with pytest.raises(UnsafePath):
        parse_manifest(encode_manifest(manifest))


def entries(first: tuple[int, int], second: tuple[int, int]) -> list[FileEntry]:
    """Two files with different content at (offset, length)."""
    return [
        FileEntry(path, length, digest(path.encode()), offset, length, "identity", immutable=False)
        for path, (offset, length) in zip("ab", (first, second), strict=True)
    ]


ranges = st.tuples(st.integers(0, 20), st.integers(0, 10))


@given(ranges, ranges)
def test_frames_of_different_content_never_overlap(first: tuple[int, int], second: tuple[int, int]) -> None:
    manifest = manifest_of(entries(first, second), size=100)
    bytes_of = [set(range(start, start + length)) for start, length in (first, second)]
    if bytes_of[0] & bytes_of[1]:
        with pytest.raises(ManifestInvalid, match="overlaps"):
            parse_manifest(encode_manifest(manifest))
    else:
        assert parse_manifest(encode_manifest(manifest)) == manifest


@given(ranges, st.integers(0, 30))
def test_a_frame_lies_inside_the_pack(place: tuple[int, int], size: int) -> None:
    manifest = manifest_of([entries(place, (0, 0))[0]], size=size)
    if sum(place) > size:
        with pytest.raises(ManifestInvalid):
            parse_manifest(encode_manifest(manifest))
    else:
        parse_manifest(encode_manifest(manifest))
