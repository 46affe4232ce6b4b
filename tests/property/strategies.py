"""What the properties are tried on: paths, trees, releases, pointers and listings."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterable, Mapping, Sequence

from hypothesis import strategies as st

from s3sync_agent import pack
from s3sync_agent.bucket import Listed
from s3sync_agent.layout import MAX_DEPTH, MAX_PATH_BYTES, MAX_SEGMENT_BYTES
from s3sync_agent.pointer import POINTER_TYPE, SCHEMA, Pointer, ReleaseRef, Rollout, format_time
from s3sync_agent.release import (
    Encoding,
    FileEntry,
    Manifest,
    Pack,
    Source,
    digest,
    new_manifest,
)
from tests.releases import NOON, SITE

# ------------------------------------------------------------------------------ paths

_CHARACTERS = st.one_of(
    st.sampled_from(string.ascii_letters + string.digits + "-_. "),
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\"),
)
names = st.text(_CHARACTERS, min_size=1, max_size=12).filter(lambda n: n not in (".", "..", ".s3sync"))
paths = st.lists(names, min_size=1, max_size=4).map("/".join)

_CONTROL = [chr(code) for code in (*range(32), *range(127, 160))]
_BAD_SEGMENTS = st.one_of(
    st.sampled_from(["", ".", "..", "a\\b", "..\\..\\x", "\ud800", "x\udcff"]),
    st.builds("{}{}{}".format, names, st.sampled_from(_CONTROL), names),
    st.integers(MAX_SEGMENT_BYTES + 1, 400).map("n".__mul__),
    st.integers(MAX_SEGMENT_BYTES // 2 + 1, 200).map("ü".__mul__),
)
unsafe_paths = st.one_of(
    st.builds(
        lambda before, bad, after: "/".join([*before, bad, *after]),
        st.lists(names, max_size=3),
        _BAD_SEGMENTS,
        st.lists(names, max_size=3),
    ),
    paths.map("/{}".format),
    paths.map("../{}".format),
    paths.map(".s3sync/{}".format),
    st.just(".s3sync"),
    st.integers(MAX_DEPTH + 1, 10_000).map(lambda depth: "/".join("d" * depth)),
    st.integers(MAX_PATH_BYTES // 2 + 1, 600).map(lambda count: "/".join("d" * count)),
)


def _nested(folders: Sequence[str], name: str) -> str:
    # Folders and files get names that cannot meet, so that any set of such paths is a tree.
    return "/".join([*(f"d{folder}" for folder in folders), f"f{name}"])


tree_paths = st.builds(_nested, st.lists(names, max_size=3), names)
contents = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda piece, times: piece * times, st.binary(min_size=1, max_size=20), st.integers(0, 500)),
    st.sampled_from([b"", b"the same in many files", b"x" * 1000]),
)
trees = st.dictionaries(tree_paths, contents, min_size=1, max_size=12)

# --------------------------------------------------------------------------- releases


def frame(content: bytes, encoding: Encoding) -> bytes:
    if encoding == "identity":
        return content
    out = bytearray()
    pack.compress([content], len(content), out.extend)
    return bytes(out)


def entry_for(path: str, content: bytes, encoding: Encoding = "identity", offset: int = 0) -> FileEntry:
    return FileEntry(
        path=path,
        size=len(content),
        sha256=digest(content),
        offset=offset,
        length=len(frame(content, encoding)),
        encoding=encoding,
        immutable=False,
    )


def release_of(files: Mapping[str, bytes], order: Iterable[str] = ()) -> tuple[Manifest, bytes]:
    """A manifest and its pack; equal contents share a frame, and `order` says which come first."""
    stored = bytearray()
    first: dict[bytes, FileEntry] = {}
    entries = []
    for path in [*order, *(path for path in files if path not in set(order))]:
        content = files[path]
        if content not in first:
            encoding = pack.preferred_encoding(path, len(content))
            first[content] = entry_for(path, content, encoding, len(stored))
            stored += frame(content, encoding)
        one = first[content]
        entries.append(
            FileEntry(path, one.size, one.sha256, one.offset, one.length, one.encoding, immutable=False)
        )
    return manifest_of(entries, bytes(stored)), bytes(stored)


def manifest_of(entries: Sequence[FileEntry], stored: bytes = b"", *, size: int | None = None) -> Manifest:
    return new_manifest(
        version="v1",
        created_at="2026-11-22T18:15:00Z",
        source=Source(),
        pack=Pack(len(stored) if size is None else size, digest(stored)),
        files=tuple(entries),
    )


@st.composite
def releases(draw: st.DrawFn) -> tuple[Manifest, bytes, dict[str, bytes]]:
    """(manifest, pack, the files they stand for)."""
    files = draw(trees)
    order = draw(st.permutations(sorted(files)))
    return *release_of(files, order), files


@st.composite
def wide_manifests(draw: st.DrawFn) -> Manifest:
    """Manifests of packs far too large to exist here: frames up to 40 MiB with gaps between them."""
    offset = 0
    entries = []
    mebibyte = 1024 * 1024
    sizes = st.one_of(st.integers(0, 1000), st.integers(0, 40 * mebibyte))
    count = draw(st.integers(1, 12))
    for number in range(count):
        offset += draw(st.one_of(st.just(0), st.integers(0, mebibyte)))
        length = draw(sizes)
        sha256 = hashlib.sha256(f"{number}".encode()).hexdigest()
        entries += [
            FileEntry(f"{number}/{copy}", length, sha256, offset, length, "identity", immutable=False)
            for copy in range(draw(st.integers(1, 3)))
        ]
        offset += length
    return manifest_of(entries, size=offset)


# --------------------------------------------------------------------------- pointers

# Few of each, so that they meet: the same release in two roles, a denied promotion, one on disk.
refs = st.builds(
    lambda version, promotion, activate_at: ReleaseRef(
        version=version,
        manifest_sha256=hashlib.sha256(version.encode()).hexdigest(),
        manifest_size=100,
        promotion_id=f"promotion-{promotion}",
        activate_at=activate_at,
    ),
    st.sampled_from("ABCD"),
    st.integers(0, 5),
    st.none() | st.integers(-100, 100).map(lambda seconds: format_time(NOON + seconds)),
)
pointers = st.builds(
    Pointer,
    type=st.just(POINTER_TYPE),
    schema=st.just(SCHEMA),
    site=st.just(SITE.url),
    sequence=st.integers(1, 2**53),
    active=refs,
    baseline=st.none() | refs,
    prepare=st.none() | refs,
    rollout=st.none() | st.builds(Rollout, st.integers(0, 100)),
)

# --------------------------------------------------------------------------- listings

etags = st.binary(max_size=8).map(lambda seed: hashlib.md5(seed, usedforsecurity=False).hexdigest())


@st.composite
def listings(draw: st.DrawFn, prefix: str = SITE.current) -> list[Listed]:
    """What a plain site's prefix lists: a tree, sorted by key."""
    found = draw(
        st.dictionaries(
            tree_paths, st.tuples(st.integers(0, 2**40), etags, st.integers(-1000, 0)), max_size=10
        )
    )
    return [
        Listed(prefix + path, size, etag, NOON + age) for path, (size, etag, age) in sorted(found.items())
    ]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(string.ascii_letters), inner, max_size=4)
    ),
    max_leaves=10,
)
