from __future__ import annotations

import threading

import msgspec
import pytest

from s3sync_agent.deploy.promote import Promotion, promote_now
from s3sync_agent.deploy.releases import read_pointer
from s3sync_agent.deploy.rollback import rollback
from s3sync_agent.errors import (
    ConfigError,
    DigestMismatch,
    ManifestInvalid,
    PointerConflict,
    PointerInvalid,
    PreconditionFailed,
    ReleaseMissing,
    ReleaseRefused,
    StoreDenied,
    StoreUnavailable,
)
from s3sync_agent.pointer import Pointer, encode_pointer, format_time, parse_time
from tests.fakes import MemoryBucket
from tests.instances import Heard, promoter
from tests.releases import NOON, PAGES, SITE, place_pointer, place_release, pointer_after


class Clock:
    """S3's clock, standing still until somebody moves it."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bucket(clock: Clock) -> MemoryBucket:
    return MemoryBucket(clock=clock)


def promote(
    bucket: MemoryBucket, version: str, *, by: str = "alice", promotion_id: str = "", force: bool = False
) -> Promotion:
    return promote_now(
        promoter(bucket, by=by),
        version,
        promotion_id=promotion_id or f"promotion-of-{version}-{len(bucket.requests)}",
        force=force,
    )


def go_back(bucket: MemoryBucket, version: str | None = None, *, said: list[str] | None = None) -> Promotion:
    heard = Heard()
    if said is not None:
        heard.said = said
    bob = promoter(bucket, by="bob", heard=heard)
    return rollback(bob, version, promotion_id=f"rollback-{len(bucket.requests):08}")


def stored_pointer(bucket: MemoryBucket) -> Pointer:
    found = read_pointer(bucket, SITE)
    assert found is not None
    return found[0].pointer


# ------------------------------------------------------------------------- promoting


def test_the_first_promotion_creates_the_pointer(bucket: MemoryBucket) -> None:
    stored = place_release(bucket, "v1")
    done = promote(bucket, "v1")
    pointer = stored_pointer(bucket)
    assert done.pointer == pointer
    assert done.before is None
    assert done.etag == bucket.objects[SITE.pointer].etag
    assert bucket.objects[SITE.pointer].content_type == "application/json"
    assert (pointer.active.version, pointer.active.manifest_sha256) == ("v1", stored.sha256)
    assert pointer.active.manifest_size == stored.size
    assert pointer.active.activate_at is None
    assert pointer.site == SITE.url
    assert pointer.sequence == int(NOON)
    assert [(entry.version, entry.by) for entry in pointer.history] == [("v1", "alice")]


def test_the_next_promotion_moves_it_and_keeps_what_was_live_as_the_baseline(bucket: MemoryBucket) -> None:
    for version in ("v1", "v2"):
        place_release(bucket, version)
        promote(bucket, version)
    pointer = stored_pointer(bucket)
    assert pointer.active.version == "v2"
    assert pointer.baseline is not None
    assert pointer.baseline.version == "v1"
    assert pointer.sequence == int(NOON) + 1


def test_a_release_that_does_not_exist_is_not_promoted(bucket: MemoryBucket) -> None:
    with pytest.raises(ReleaseMissing, match="no release v1"):
        promote(bucket, "v1")
    assert SITE.pointer not in bucket.objects


def test_a_release_with_a_damaged_manifest_is_not_promoted(bucket: MemoryBucket) -> None:
    bucket.place(SITE.manifest("v1"), b"{")
    with pytest.raises(ManifestInvalid):
        promote(bucket, "v1", force=True)
    assert SITE.pointer not in bucket.objects


def test_a_manifest_of_another_version_is_not_promoted(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    bucket.place(SITE.manifest("v2"), bucket.objects[SITE.manifest("v1")].body)
    with pytest.raises(ManifestInvalid, match="is of version v1, not v2"):
        promote(bucket, "v2")


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_release_without_its_whole_pack_is_not_promoted(bucket: MemoryBucket, damage: str) -> None:
    pack = place_release(bucket, "v1").manifest.pack
    assert pack is not None
    key = SITE.pack("v1", pack.sha256)
    if damage == "missing":
        del bucket.objects[key]
    else:
        bucket.truncate(key, 3)
    with pytest.raises(ReleaseRefused, match="the pack of release v1"):
        promote(bucket, "v1", force=True)
    assert SITE.pointer not in bucket.objects


def test_nothing_is_written_when_s3_cannot_be_asked(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    bucket.outage = StoreUnavailable("connection refused")
    with pytest.raises(StoreUnavailable):
        promote(bucket, "v1")
    assert SITE.pointer not in bucket.objects


def test_notes_that_would_not_fit_into_a_full_history_are_refused(bucket: MemoryBucket) -> None:
    with pytest.raises(ConfigError, match="by is longer than 512 bytes"):
        promote(bucket, "v1", by="x" * 513)
    assert bucket.requests == []


def test_notes_that_are_not_utf_8_are_refused(bucket: MemoryBucket) -> None:
    with pytest.raises(ConfigError, match="by is not valid UTF-8"):
        promote(bucket, "v1", by="Andr\udce9")
    assert bucket.requests == []


def test_no_pointer_is_written_that_agents_would_refuse(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    place_pointer(bucket, msgspec.structs.replace(pointer_after("v1"), sequence=2**53))
    before = bucket.objects[SITE.pointer]
    with pytest.raises(PointerInvalid, match="sequence"):
        promote(bucket, "v1", force=True)
    assert bucket.objects[SITE.pointer] == before


# ------------------------------------------------------------------- the shared instant


def heartbeats(bucket: MemoryBucket, *ages: float) -> None:
    for count, age in enumerate(ages):
        bucket.place(SITE.heartbeat(f"i-{count}"), b"{}", last_modified=NOON - age)


@pytest.mark.parametrize("ages", [(), (0,), (0, 181), (500, 500, 500)])
def test_one_instance_or_none_activates_at_once(bucket: MemoryBucket, ages: tuple[float, ...]) -> None:
    place_release(bucket, "v1")
    heartbeats(bucket, *ages)
    assert promote(bucket, "v1").pointer.active.activate_at is None


def test_several_instances_activate_two_polls_ahead_by_the_clock_of_s3(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    heartbeats(bucket, 0, 179)
    activate_at = promote(bucket, "v1").pointer.active.activate_at
    assert activate_at is not None
    assert parse_time(activate_at) == NOON + 10


def test_a_fleet_that_cannot_be_listed_is_not_an_empty_fleet(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    bucket.fail_next("list", StoreDenied("access denied"))
    with pytest.raises(StoreDenied):
        promote(bucket, "v1")
    assert SITE.pointer not in bucket.objects


# ------------------------------------------------------------------------------ guards


def many(count: int) -> dict[str, bytes]:
    return {"index.html": b"x"} | {f"page-{n}.html": b"%d" % n for n in range(count - 1)}


def test_a_release_that_lost_more_than_half_of_the_files_needs_force(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1", many(9))
    place_release(bucket, "v2", many(4))
    promote(bucket, "v1")
    with pytest.raises(
        ReleaseRefused, match="v2 has less than half of the files of the active release: 4, and v1 has 9"
    ) as refused:
        promote(bucket, "v2")
    assert "--force" in refused.value.hint
    assert stored_pointer(bucket).active.version == "v1"
    assert len(promote(bucket, "v2", force=True).overridden) == 1
    assert stored_pointer(bucket).active.version == "v2"


def test_exactly_half_of_the_files_is_no_mass_change(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1", many(8))
    place_release(bucket, "v2", many(4))
    promote(bucket, "v1")
    assert promote(bucket, "v2").overridden == ()


def test_a_release_that_lost_its_index_needs_force(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    place_release(bucket, "v2", {path: body for path, body in PAGES.items() if path != "index.html"})
    promote(bucket, "v1")
    with pytest.raises(ReleaseRefused, match=r"v2 has no index\.html"):
        promote(bucket, "v2")
    promote(bucket, "v2", force=True)


def test_a_first_promotion_over_a_plain_site_twice_as_large_needs_force(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    for path in many(2 * len(PAGES)):
        bucket.place(SITE.current + path, b"live by aws s3 sync")
    assert promote(bucket, "v1").overridden == ()
    del bucket.objects[SITE.pointer]
    bucket.place(SITE.current + "one-more", b"")
    with pytest.raises(ReleaseRefused, match="less than half of the files of current/"):
        promote(bucket, "v1")
    assert SITE.pointer not in bucket.objects
    assert promote(bucket, "v1", force=True).overridden


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_an_active_release_that_cannot_be_compared_with_needs_force(
    bucket: MemoryBucket, damage: str
) -> None:
    place_release(bucket, "v1")
    place_release(bucket, "v2")
    promote(bucket, "v1")
    if damage == "missing":
        del bucket.objects[SITE.manifest("v1")]
    else:
        bucket.corrupt(SITE.manifest("v1"))
    with pytest.raises(ReleaseRefused, match="v2 cannot be compared with the active release v1"):
        promote(bucket, "v2")
    promote(bucket, "v2", force=True)
    assert stored_pointer(bucket).active.version == "v2"


def test_an_active_release_that_could_not_be_asked_for_is_not_damaged_even_with_force(
    bucket: MemoryBucket,
) -> None:
    place_release(bucket, "v1")
    place_release(bucket, "v2")
    promote(bucket, "v1")

    def refuse(operation: str, key: str) -> None:
        if key == SITE.manifest("v1"):
            raise StoreUnavailable("timed out")

    bucket.before = refuse
    with pytest.raises(StoreUnavailable):
        promote(bucket, "v2", force=True)
    assert stored_pointer(bucket).active.version == "v1"


GARBAGE = [
    b"garbage",
    b"",
    b"x" * 200_000,
    b"x" * 2_000_000,
    encode_pointer(msgspec.structs.replace(pointer_after("A"), site="s3://other")),
]


@pytest.mark.parametrize(
    "garbage", GARBAGE, ids=["text", "empty", "too large", "far too large", "of another site"]
)
def test_a_pointer_that_cannot_be_read_is_replaced_only_by_force(
    bucket: MemoryBucket, garbage: bytes
) -> None:
    place_release(bucket, "v1")
    bucket.place(SITE.pointer, garbage)
    with pytest.raises(ReleaseRefused, match="the pointer cannot be used") as refused:
        promote(bucket, "v1")
    assert "--force" in refused.value.hint
    assert bucket.objects[SITE.pointer].body == garbage
    done = promote(bucket, "v1", force=True)
    assert done.overridden
    assert stored_pointer(bucket).sequence == int(NOON)


def test_replacing_a_damaged_pointer_by_force_still_loses_to_somebody_faster(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    bucket.place(SITE.pointer, b"garbage")

    def repair(operation: str, key: str) -> None:
        if operation == "put":
            bucket.before = None
            place_pointer(bucket, pointer_after("mended"))

    bucket.before = repair
    with pytest.raises(PointerConflict, match="the pointer is at mended by somebody"):
        promote(bucket, "v1", force=True)


# ------------------------------------------------------------------------------- races


def test_of_two_promoters_one_wins_and_the_loser_is_told_who_won(bucket: MemoryBucket) -> None:
    for version in ("v1", "v2", "v3"):
        place_release(bucket, version)
    promote(bucket, "v1")

    def overtake(operation: str, key: str) -> None:
        if operation == "put":
            bucket.before = None
            promote(bucket, "v2", by="carol")

    bucket.before = overtake
    with pytest.raises(PointerConflict) as lost:
        promote(bucket, "v3")
    assert str(lost.value) == (f"v3 was not promoted: the pointer is at v2 by carol at {format_time(NOON)}")
    assert lost.value.exit_code == 5
    assert [entry.version for entry in stored_pointer(bucket).history] == ["v2", "v1"]


def test_of_two_first_promoters_one_wins(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    place_release(bucket, "v2")

    def overtake(operation: str, key: str) -> None:
        if operation == "put":
            bucket.before = None
            promote(bucket, "v1", by="carol")

    bucket.before = overtake
    with pytest.raises(PointerConflict, match="the pointer is at v1 by carol"):
        promote(bucket, "v2")


def test_of_many_promoters_at_once_exactly_one_wins_each_round(bucket: MemoryBucket) -> None:
    versions = [f"v{count}" for count in range(8)]
    for version in versions:
        place_release(bucket, version)
    together = threading.Barrier(len(versions), timeout=10)
    outcomes: dict[str, str] = {}

    def wait_for_all(operation: str, key: str) -> None:
        if operation == "put":
            together.wait()

    def run(version: str) -> None:
        try:
            promote(bucket, version)
            outcomes[version] = "won"
        except PointerConflict:
            outcomes[version] = "lost"

    bucket.before = wait_for_all
    threads = [threading.Thread(target=run, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    bucket.before = None
    winners = [version for version, outcome in outcomes.items() if outcome == "won"]
    assert len(outcomes) == len(versions)
    assert winners == [stored_pointer(bucket).active.version]


def test_a_success_that_the_sdk_repeated_and_so_was_told_no_is_a_success(bucket: MemoryBucket) -> None:
    for version in ("v1", "v2"):
        place_release(bucket, version)
        bucket.lose_answer("put", PreconditionFailed("412"))
        done = promote(bucket, version)
        assert done.etag == bucket.objects[SITE.pointer].etag
        assert stored_pointer(bucket) == done.pointer
    assert stored_pointer(bucket).active.version == "v2"


def test_a_success_whose_answer_was_lost_is_a_success(bucket: MemoryBucket) -> None:
    for version in ("v1", "v2"):
        place_release(bucket, version)
        bucket.lose_answer("put", StoreUnavailable("connection reset"))
        assert promote(bucket, version).etag == bucket.objects[SITE.pointer].etag
    assert stored_pointer(bucket).active.version == "v2"


@pytest.mark.parametrize("first", [True, False])
def test_an_answer_that_was_lost_before_anything_was_written_is_no_promotion(
    bucket: MemoryBucket, first: bool
) -> None:
    if not first:
        place_release(bucket, "v1")
        promote(bucket, "v1")
    place_release(bucket, "v2")
    before = bucket.objects.get(SITE.pointer)
    bucket.fail_next("put", StoreUnavailable("connection reset"))
    with pytest.raises(StoreUnavailable, match="v2 was not promoted: connection reset"):
        promote(bucket, "v2")
    assert bucket.objects.get(SITE.pointer) == before


def test_a_lost_answer_that_cannot_be_read_back_is_told_as_unknown(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    bucket.lose_answer("put", StoreUnavailable("connection reset"))

    def cut(operation: str, key: str) -> None:
        if operation == "put":
            bucket.fail_next("get", StoreUnavailable("timed out"))

    bucket.before = cut
    with pytest.raises(StoreUnavailable, match="cannot tell whether v1 was promoted") as unknown:
        promote(bucket, "v1")
    assert "s3sync status" in unknown.value.hint


def test_a_promotion_that_was_written_and_replaced_at_once_is_told_as_that(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    place_release(bucket, "v2")
    bucket.lose_answer("put", StoreUnavailable("connection reset"))

    def replace_before_reading_back(operation: str, key: str) -> None:
        if operation == "get" and key == SITE.pointer and key in bucket.objects:
            bucket.before = None
            promote(bucket, "v2", by="carol")

    bucket.before = replace_before_reading_back
    with pytest.raises(PointerConflict, match="v1 was promoted, but replaced at once: the pointer is at v2"):
        promote(bucket, "v1")


def test_a_pointer_deleted_under_the_promoter_is_a_lost_race(bucket: MemoryBucket) -> None:
    for version in ("v1", "v2"):
        place_release(bucket, version)
    promote(bucket, "v1")

    def delete(operation: str, key: str) -> None:
        if operation == "put":
            bucket.before = None
            del bucket.objects[SITE.pointer]

    bucket.before = delete
    with pytest.raises(PointerConflict, match="the pointer was deleted meanwhile"):
        promote(bucket, "v2")


def test_a_release_that_was_pruned_while_it_was_promoted_is_told_at_once(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")

    def prune(operation: str, key: str) -> None:
        if operation == "put":
            del bucket.objects[SITE.manifest("v1")]

    bucket.before = prune
    with pytest.raises(ReleaseMissing, match="somebody was pruning it at the same time"):
        promote(bucket, "v1")


# ------------------------------------------------------------------------ rolling back


@pytest.fixture
def three(bucket: MemoryBucket) -> MemoryBucket:
    """v1, v2 and v3 were promoted one after the other."""
    for version in ("v1", "v2", "v3"):
        place_release(bucket, version, PAGES | {"index.html": version.encode()})
        promote(bucket, version)
    return bucket


def test_a_rollback_goes_one_back_and_a_second_one_further(three: MemoryBucket) -> None:
    assert go_back(three).pointer.active.version == "v2"
    assert go_back(three).pointer.active.version == "v1"
    with pytest.raises(ReleaseRefused, match="no release was live before v1"):
        go_back(three)


def test_a_rollback_raises_the_sequence_and_names_who_did_it(three: MemoryBucket) -> None:
    before = stored_pointer(three)
    after = go_back(three).pointer
    assert after.sequence > before.sequence
    assert after.history[0].by == "bob"
    assert after.active.promotion_id not in {entry.promotion_id for entry in before.history}


def test_a_rollback_restores_the_very_manifest_that_was_live(three: MemoryBucket) -> None:
    before = {entry.version: entry.manifest_sha256 for entry in stored_pointer(three).history}
    assert go_back(three, "v1").pointer.active.manifest_sha256 == before["v1"]


def test_a_rollback_says_what_it_will_do_before_it_does(three: MemoryBucket) -> None:
    said: list[str] = []

    def nothing_written_yet(operation: str, key: str) -> None:
        if operation == "put":
            assert said

    three.before = nothing_written_yet
    go_back(three, said=said)
    assert said[0].startswith("rolling back from v3 by alice at ")
    assert " to v2 of " in said[0]


@pytest.mark.parametrize("damage", ["manifest gone", "manifest damaged", "all gone"])
def test_a_rollback_works_however_broken_the_release_is_that_it_leaves(
    three: MemoryBucket, damage: str
) -> None:
    if damage == "manifest gone":
        del three.objects[SITE.manifest("v3")]
    elif damage == "manifest damaged":
        three.corrupt(SITE.manifest("v3"))
    else:
        three.delete([key for key in three.objects if key.startswith(SITE.release("v3"))])
    assert go_back(three).pointer.active.version == "v2"


def test_a_rollback_is_not_held_up_by_the_guard_against_mass_changes(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1", many(2))
    place_release(bucket, "v2", many(20))
    promote(bucket, "v1")
    promote(bucket, "v2")
    assert go_back(bucket).pointer.active.version == "v1"


def test_a_rollback_to_a_release_that_is_gone_is_refused_with_the_reason(three: MemoryBucket) -> None:
    del three.objects[SITE.manifest("v2")]
    with pytest.raises(ReleaseRefused, match="cannot go back to v2: no release v2") as refused:
        go_back(three)
    assert isinstance(refused.value.__cause__, ReleaseMissing)
    assert go_back(three, "v1").pointer.active.version == "v1"


def test_a_rollback_to_a_release_that_was_changed_since_is_refused(three: MemoryBucket) -> None:
    place_release(three, "v2", {"index.html": b"other"})
    with pytest.raises(ReleaseRefused, match="cannot go back to v2: manifest has SHA-256") as refused:
        go_back(three)
    assert isinstance(refused.value.__cause__, DigestMismatch)


def test_a_rollback_that_could_not_ask_for_its_target_does_not_call_it_damaged(three: MemoryBucket) -> None:
    def refuse(operation: str, key: str) -> None:
        if key == SITE.manifest("v2"):
            raise StoreUnavailable("timed out")

    three.before = refuse
    with pytest.raises(StoreUnavailable):
        go_back(three)


def test_a_rollback_to_the_active_release_or_to_one_never_live_is_refused(three: MemoryBucket) -> None:
    place_release(three, "v4")
    with pytest.raises(ReleaseRefused, match="v3 is the active release already"):
        go_back(three, "v3")
    with pytest.raises(ReleaseRefused, match="v4 is not in the history") as refused:
        go_back(three, "v4")
    assert "s3sync promote v4`" in refused.value.hint


def test_there_is_no_rollback_before_the_first_promotion(bucket: MemoryBucket) -> None:
    with pytest.raises(ReleaseRefused, match="there is no pointer"):
        go_back(bucket)


def test_a_rollback_loses_to_a_promotion_that_came_first(three: MemoryBucket) -> None:
    place_release(three, "v4")

    def overtake(operation: str, key: str) -> None:
        if operation == "put":
            three.before = None
            promote(three, "v4", by="carol")

    three.before = overtake
    with pytest.raises(PointerConflict, match="v2 was not promoted: the pointer is at v4 by carol"):
        go_back(three)
