from __future__ import annotations

from s3sync_agent.release import FileEntry, Manifest
from s3sync_agent.retention import RetainedAsset, retain, trees_to_prune, union
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


def test_a_path_that_one_release_calls_mutable_comes_from_live() -> None:
    assert union([release(a=("0", True)), release(a=("0", False))]) == {}


def holding(**files: str) -> Manifest:
    """All of them immutable; `__` is a dot."""
    return release(**{path.replace("__", "."): (sha256, True) for path, sha256 in files.items()})


def test_a_compressed_copy_lies_beside_the_original_it_was_published_with() -> None:
    assert sorted(union([holding(a="0", a__gz="1"), holding(a="0")])) == ["a", "a.gz"]
    assert sorted(union([holding(a="0"), holding(a="0", a__gz="1")])) == ["a", "a.gz"]


def test_a_compressed_copy_never_lies_beside_the_original_of_another_release() -> None:
    assert sorted(union([holding(a__gz="1"), holding(a="0")])) == ["a"]
    assert sorted(union([holding(a="0", a__br="1"), holding(a="0", a__gz="1")])) == ["a", "a.br", "a.gz"]
    assert sorted(union([holding(a__gz="1")])) == ["a.gz"], "alone it is a file like others"


def test_a_copy_that_was_compressed_anew_is_in_neither_form_beside_its_original() -> None:
    assert sorted(union([holding(a="0", a__gz="1"), holding(a="0", a__gz="2")])) == ["a"]


def test_what_is_retained_is_no_proof_that_a_copy_and_an_original_belong_together() -> None:
    kept = retain((), [holding(a__gz="1"), holding(a="0")], now=NOON, keep_seconds=60)
    assert sorted(union([], kept)) == ["a"]
    kept = retain((), [holding(a__gz="1")], now=NOON, keep_seconds=60)
    assert sorted(union([holding(a="0")], kept)) == ["a"]
    assert sorted(union([holding(b="0")], kept)) == ["a.gz", "b"]


def test_assets_of_a_leaving_release_stay_for_a_time() -> None:
    kept = retain((), [release(a=("0", True), page=("1", False))], now=NOON, keep_seconds=60)
    assert kept == (RetainedAsset("a", 1, "0" * 64, NOON + 60),)
    assert list(union([release(b=("2", True))], kept)) == ["b", "a"]
    assert retain(kept, [], now=NOON + 59, keep_seconds=60) == kept
    assert retain(kept, [], now=NOON + 60, keep_seconds=60) == ()


def test_a_path_is_retained_once_however_many_releases_held_it() -> None:
    kept: tuple[RetainedAsset, ...] = ()
    for moment in range(100):
        kept = retain(kept, [release(a=("0", True))], now=NOON + moment, keep_seconds=60)
    assert kept == (RetainedAsset("a", 1, "0" * 64, NOON + 99 + 60),)


def test_a_retained_path_with_other_bytes_than_a_release_comes_from_live() -> None:
    kept = retain((), [release(a=("0", True))], now=NOON, keep_seconds=60)
    assert union([release(a=("1", True))], kept) == {}
