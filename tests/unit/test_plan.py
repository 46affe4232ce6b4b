from __future__ import annotations

from s3sync_agent.plan import MAX_GAP, PART_SIZE, make_plan, need
from s3sync_agent.release import FileEntry, Manifest
from tests.property.strategies import manifest_of, release_of

MEBIBYTE = 1024 * 1024


def stored(*frames: tuple[str, int, int]) -> Manifest:
    """Files as (path, offset, length) in a pack that ends with the last of them."""
    entries = [
        FileEntry(path, length, f"{number:064x}", offset, length, "identity", immutable=False)
        for number, (path, offset, length) in enumerate(frames)
    ]
    return manifest_of(entries, size=max(entry.offset + entry.length for entry in entries))


def test_a_normal_update_is_one_range_of_what_is_new() -> None:
    manifest = stored(("a", 0, 100), ("b", 100, 100), ("kept", 200, 10 * MEBIBYTE))
    plan = make_plan(manifest, {"kept"})
    assert [(span.start, span.end) for span in plan.spans] == [(0, 200)]
    assert plan.requests == 1


def test_reading_over_a_small_gap_saves_a_request_and_over_a_large_one_costs_more() -> None:
    small = stored(("a", 0, 100), ("b", 100, MAX_GAP), ("c", 100 + MAX_GAP, 100))
    large = stored(("a", 0, 100), ("b", 100, MAX_GAP + 1), ("c", 101 + MAX_GAP, 100))
    assert make_plan(small, {"b"}).requests == 1
    assert make_plan(large, {"b"}).requests == 2
    assert make_plan(large, {"b"}).bytes_to_fetch == 200


def test_a_new_instance_needs_one_request_for_every_eight_mebibytes() -> None:
    manifest = stored(*((f"{number:02}", number * MEBIBYTE, MEBIBYTE) for number in range(20)))
    assert make_plan(manifest, ()).requests == 3
    assert list(make_plan(manifest, ()).spans[0].parts())[-1] == (2 * PART_SIZE, 20 * MEBIBYTE)


def test_equal_files_are_fetched_once() -> None:
    manifest, pack = release_of({"a": b"same" * 10, "b": b"same" * 10, "c": b"other"})
    plan = make_plan(manifest, ())
    assert plan.bytes_to_fetch == len(pack) == 45
    assert [frame.paths for frame in plan.spans[0].frames] == [("a", "b"), ("c",)]


def test_empty_files_need_no_request() -> None:
    manifest, _ = release_of({"a": b"", "b": b""})
    plan = make_plan(manifest, ())
    assert (plan.requests, [entry.path for entry in plan.empty]) == (0, ["a", "b"])


def test_space_is_counted_in_blocks_and_directories_take_one_each() -> None:
    manifest, _ = release_of({"a/b/c": b"x", "a/d": b"y" * 4097, "e": b""})
    needed = need(manifest, ())
    assert needed.inodes == 3 + 3
    assert needed.size == (1 + 2 + 0) * 4096 + 3 * 4096
