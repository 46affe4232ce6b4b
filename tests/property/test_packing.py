from __future__ import annotations

import io
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from s3sync_agent.deploy.local import hash_files
from s3sync_agent.deploy.packing import build_pack
from s3sync_agent.deploy.progress import silent
from s3sync_agent.pack import FrameReader
from s3sync_agent.release import FileEntry, Manifest, Source, encode_manifest, new_manifest, parse_manifest

names = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\"), min_size=1, max_size=12
)
contents = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda piece, times: piece * times, st.binary(min_size=1, max_size=20), st.integers(0, 500)),
)


def is_name(name: str) -> bool:
    return name not in (".", "..", ".s3sync")


# Folders and files get names that cannot meet, so every dictionary is a tree.
trees = st.dictionaries(
    st.builds(
        lambda folders, name: "/".join([*(f"d{folder}" for folder in folders), f"f{name}"]),
        st.lists(names.filter(is_name), max_size=3),
        names.filter(is_name),
    ),
    contents,
    min_size=1,
    max_size=12,
)


def pack(tree: dict[str, bytes], former: tuple[FileEntry, ...] = ()) -> tuple[Manifest, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for path, content in tree.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(content)
        out = io.BytesIO()
        built, entries = build_pack(
            root,
            hash_files(root, sorted(tree), workers=2, progress=silent),
            out,
            former=former,
            is_immutable=lambda _: False,
            workers=2,
            progress=silent,
        )
    manifest = new_manifest(version="v1", created_at="", source=Source(), pack=built, files=entries)
    return manifest, out.getvalue()


@settings(max_examples=60, deadline=None)
@given(trees)
def test_any_tree_makes_a_valid_manifest_and_comes_back_out_of_its_pack(tree: dict[str, bytes]) -> None:
    manifest, stored = pack(tree)
    assert parse_manifest(encode_manifest(manifest)) == manifest
    found = {}
    for entry in manifest.files:
        plain = io.BytesIO()
        reader = FrameReader(entry, plain.write)
        reader.feed(stored[entry.offset : entry.offset + entry.length])
        reader.finish()
        found[entry.path] = plain.getvalue()
    assert found == tree


@settings(max_examples=60, deadline=None)
@given(trees, trees)
def test_what_the_former_release_holds_comes_last_in_the_order_of_its_pack(
    old: dict[str, bytes], new: dict[str, bytes]
) -> None:
    shared = dict(list(old.items())[::2])
    former, _ = pack(old)
    manifest, _ = pack({**new, **{f"kept/{path}": content for path, content in shared.items()}}, former.files)
    offsets = {entry.sha256: entry.offset for entry in former.files if entry.length}
    in_order = sorted((entry for entry in manifest.files if entry.length), key=lambda entry: entry.offset)
    carried = [offsets.get(entry.sha256) for entry in in_order]
    known = [offset for offset in carried if offset is not None]
    assert carried == [None] * (len(carried) - len(known)) + known
    assert known == sorted(known)
