from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from s3sync_agent.layout import check_tree
from s3sync_agent.release import FileEntry, Manifest
from s3sync_agent.retention import retain, trees_to_prune, union
from tests.property.strategies import manifest_of
from tests.releases import NOON

ids = st.sampled_from([f"v{number}-0123456789ab" for number in range(8)])
sets = st.frozensets(ids)
retirements = st.dictionaries(ids, st.integers(-1000, 0).map(lambda age: NOON + age))


@given(sets, sets, retirements, st.integers(0, 10))
def test_what_is_protected_is_never_pruned_and_the_rest_fits(
    on_disk: frozenset[str], protected: frozenset[str], retired: dict[str, float], keep: int
) -> None:
    pruned = trees_to_prune(on_disk, protected=protected, retired=retired, keep=keep)
    kept = on_disk - set(pruned)
    assert protected.isdisjoint(pruned)
    assert set(pruned) <= on_disk
    assert len(pruned) == len(set(pruned))
    assert len(kept) == min(len(on_disk), max(keep, len(on_disk & protected)))


@given(sets, sets, retirements, st.integers(0, 10))
def test_the_longest_retired_goes_first(
    on_disk: frozenset[str], protected: frozenset[str], retired: dict[str, float], keep: int
) -> None:
    pruned = trees_to_prune(on_disk, protected=protected, retired=retired, keep=keep)
    moments = [retired.get(release, 0.0) for release in pruned]
    assert moments == sorted(moments)
    kept = on_disk - set(pruned) - protected
    assert all(retired.get(release, 0.0) >= max(moments, default=0.0) for release in kept)


# Few paths and contents, so that releases agree, differ and collide.
files = st.dictionaries(
    st.sampled_from(["a", "a/b", "a/b/c", "d-1.js", "d-1.js/e", "f.css", "f.css.gz"]),
    st.tuples(st.sampled_from(["0" * 64, "1" * 64]), st.booleans()),
    max_size=6,
)


def manifest(content: dict[str, tuple[str, bool]]) -> Manifest:
    return manifest_of(
        [
            FileEntry(path, 0, sha256, 0, 0, "identity", immutable=immutable)
            for path, (sha256, immutable) in content.items()
        ]
    )


@given(st.lists(files, max_size=4))
def test_the_union_holds_what_is_immutable_and_the_same_everywhere(
    releases: list[dict[str, tuple[str, bool]]],
) -> None:
    found = union(map(manifest, releases))
    for path, entry in found.items():
        assert {release[path][0] for release in releases if path in release} == {entry.sha256}
        assert all(release[path][1] for release in releases if path in release)
    check_tree(found)


@given(st.lists(files, max_size=4))
def test_nothing_that_could_be_in_the_union_is_left_out(
    releases: list[dict[str, tuple[str, bool]]],
) -> None:
    found = union(map(manifest, releases))
    marked = {path for release in releases for path, (_, immutable) in release.items() if immutable}
    for path in marked - found.keys():
        differs = len({release[path][0] for release in releases if path in release}) > 1
        is_directory = any(other.startswith(f"{path}/") for other in marked)
        is_mutable = any(not release[path][1] for release in releases if path in release)
        assert differs or is_directory or is_mutable or is_stranger(path, releases)


def is_stranger(path: str, releases: list[dict[str, tuple[str, bool]]]) -> bool:
    return path == "f.css.gz" and not any({path, "f.css"} <= release.keys() for release in releases)


@given(st.lists(files, max_size=4), st.lists(files, max_size=2))
def test_a_copy_beside_its_original_means_that_a_release_has_these_very_two(
    releases: list[dict[str, tuple[str, bool]]], left: list[dict[str, tuple[str, bool]]]
) -> None:
    kept = retain((), map(manifest, left), now=NOON, keep_seconds=50)
    found = union(map(manifest, releases), kept)
    if {"f.css", "f.css.gz"} <= found.keys():
        pair = {path: (found[path].sha256, True) for path in ("f.css", "f.css.gz")}
        assert any(pair.items() <= release.items() for release in releases)


@given(st.lists(files, max_size=4), st.integers(0, 100))
def test_what_is_retained_is_immutable_and_young_enough(
    releases: list[dict[str, tuple[str, bool]]], age: int
) -> None:
    kept = retain((), map(manifest, releases), now=NOON, keep_seconds=50)
    marked = {path for release in releases for path, (_, immutable) in release.items() if immutable}
    assert {asset.path for asset in kept} == marked
    assert retain(kept, [], now=NOON + age, keep_seconds=50) == (kept if age < 50 else ())
