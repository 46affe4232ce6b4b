from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from s3sync_agent.plan import MAX_GAP, PART_SIZE, directories_of, make_plan, need
from s3sync_agent.release import FileEntry, Manifest
from tests.property.strategies import manifest_of, releases, wide_manifests


@st.composite
def updates(draw: st.DrawFn) -> tuple[Manifest, frozenset[str]]:
    """(a manifest, the paths that are on disk already)."""
    manifest = draw(wide_manifests())
    have = draw(st.sets(st.sampled_from([entry.path for entry in manifest.files])))
    return manifest, frozenset(have)


@given(updates())
def test_every_missing_file_is_made_exactly_once_and_nothing_else_is(
    update: tuple[Manifest, frozenset[str]],
) -> None:
    manifest, have = update
    plan = make_plan(manifest, have)
    made = [path for span in plan.spans for frame in span.frames for path in frame.paths]
    made += [entry.path for entry in plan.empty]
    assert sorted(made) == sorted(entry.path for entry in manifest.files if entry.path not in have)


@given(updates())
def test_every_path_of_a_frame_has_its_content(update: tuple[Manifest, frozenset[str]]) -> None:
    manifest, have = update
    content = {entry.path: entry.sha256 for entry in manifest.files}
    for span in make_plan(manifest, have).spans:
        for frame in span.frames:
            assert {content[path] for path in frame.paths} == {frame.entry.sha256}


@given(updates())
def test_spans_are_disjoint_and_in_order_and_joined_only_over_small_gaps(
    update: tuple[Manifest, frozenset[str]],
) -> None:
    spans = make_plan(*update).spans
    for before, after in pairwise(spans):
        assert after.start - before.end > MAX_GAP
    for span in spans:
        assert span.start == span.frames[0].entry.offset
        assert span.end == span.frames[-1].end
        for frame, following in pairwise(span.frames):
            assert 0 <= following.entry.offset - frame.end <= MAX_GAP


@given(updates())
def test_parts_tile_their_span_and_none_is_larger_than_one_request(
    update: tuple[Manifest, frozenset[str]],
) -> None:
    for span in make_plan(*update).spans:
        parts = list(span.parts())
        assert [start for start, _ in parts] == [span.start, *(end for _, end in parts[:-1])]
        assert parts[-1][1] == span.end
        assert all(0 < end - start <= PART_SIZE for start, end in parts)


@given(updates())
def test_requests_are_few_and_counted_right(update: tuple[Manifest, frozenset[str]]) -> None:
    plan = make_plan(*update)
    assert plan.requests == sum(len(list(span.parts())) for span in plan.spans)
    assert plan.requests <= len(plan.spans) + -(-plan.bytes_to_fetch // PART_SIZE)


@given(wide_manifests())
def test_nothing_is_fetched_for_what_is_on_disk(manifest: Manifest) -> None:
    plan = make_plan(manifest, {entry.path for entry in manifest.files})
    assert (plan.requests, plan.bytes_to_fetch, plan.empty) == (0, 0, ())


@given(releases())
def test_a_new_instance_reads_the_pack_once_from_end_to_end(
    release: tuple[Manifest, bytes, dict[str, bytes]],
) -> None:
    manifest, stored, _ = release
    plan = make_plan(manifest, ())
    assert plan.bytes_to_fetch == len(stored)
    assert plan.requests == bool(stored)


@given(releases(), st.data())
def test_what_is_linked_takes_only_directories(
    release: tuple[Manifest, bytes, dict[str, bytes]], data: st.DataObject
) -> None:
    manifest, _, files = release
    have = data.draw(st.sets(st.sampled_from(sorted(files))))
    nothing, some, all_ = need(manifest, files), need(manifest, have), need(manifest, ())
    assert nothing.inodes == len(directories_of(manifest)) + 1
    assert some.inodes == nothing.inodes + len(files) - len(have)
    assert some.size - nothing.size >= sum(len(body) for path, body in files.items() if path not in have)
    assert nothing.size <= some.size <= all_.size


@given(releases())
def test_directories_come_parents_first_and_once(release: tuple[Manifest, bytes, dict[str, bytes]]) -> None:
    manifest, _, files = release
    made: set[str] = set()
    for directory in directories_of(manifest):
        parent = directory.rpartition("/")[0]
        assert parent == "" or parent in made
        assert directory not in made
        made.add(directory)
    assert all(path.rpartition("/")[0] in made | {""} for path in files)


def test_a_pack_that_claims_to_be_beyond_all_bounds_is_planned_at_once() -> None:
    entry = FileEntry("f", 1, "0" * 64, 0, 2**62, "zstd", immutable=False)
    assert make_plan(manifest_of([entry], size=2**62), ()).requests == 2**62 // PART_SIZE
