from __future__ import annotations

from s3sync_agent.release import FileEntry, Manifest
from s3sync_agent.retention import manifests_to_forget, trees_to_prune, union
from tests.property.strategies import manifest_of
from tests.releases import NOON

RETIRED = {"a": NOON - 300, "b": NOON - 200, "c": NOON - 100}


def test_the_longest_retired_tree_goes_first() -> None:
    pruned = trees_to_prune(["a", "b", "c", "live"], protected=["live"], retired=RETIRED, keep=2)
    assert pruned == ["a", "b"]


def test_what_was_staged_and_never_live_goes_before_what_was() -> None:
    pruned = trees_to_prune(["a", "never", "live"], protected=["live"], retired=RETIRED, keep=2)
    assert pruned == ["never"]


def test_more_may_be_protected_than_are_to_be_kept() -> None:
    on_disk = ["active", "baseline", "live", "previous"]
    assert trees_to_prune(on_disk, protected=on_disk, retired={}, keep=1) == []


def test_making_room_leaves_only_what_is_protected() -> None:
    assert trees_to_prune(["a", "b", "live"], protected=["live"], retired=RETIRED, keep=0) == ["a", "b"]


def forgotten(keep_releases: int, keep_seconds: float) -> list[str]:
    return manifests_to_forget(
        ["a", "b", "c", "live"],
        on_disk=["live"],
        retired=RETIRED,
        now=NOON,
        keep_releases=keep_releases,
        keep_seconds=keep_seconds,
    )


def test_assets_of_the_newest_releases_stay_however_old() -> None:
    assert forgotten(keep_releases=3, keep_seconds=0) == ["a"]


def test_assets_of_young_releases_stay_however_many() -> None:
    assert forgotten(keep_releases=1, keep_seconds=200) == ["b", "a"]


def test_a_release_whose_tree_is_here_is_never_forgotten() -> None:
    assert "live" not in forgotten(keep_releases=0, keep_seconds=0)


def release(**files: tuple[str, bool]) -> Manifest:
    return manifest_of(
        [
            FileEntry(path.replace("_", "/"), 1, sha256 * 64, 0, 1, "identity", immutable=immutable)
            for path, (sha256, immutable) in files.items()
        ]
    )


def test_immutable_files_of_every_release_are_found() -> None:
    found = union([release(a=("0", True), page=("1", False)), release(b=("2", True))])
    assert sorted(found) == ["a", "b"]


def test_a_path_whose_bytes_differ_is_not_immutable_whatever_it_is_called() -> None:
    assert union([release(a=("0", True)), release(a=("1", True))]) == {}
    assert union([release(a=("0", True)), release(a=("1", False))]) == {}


def test_a_path_that_is_a_directory_elsewhere_comes_from_live() -> None:
    assert sorted(union([release(a=("0", True)), release(a_b=("1", True))])) == ["a/b"]
