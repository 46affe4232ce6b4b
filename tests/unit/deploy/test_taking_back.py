"""Abort, rollback and freeze beside a fleet."""

from __future__ import annotations

import msgspec
import pytest

from s3sync_agent.deploy import two_phase
from s3sync_agent.deploy.abort import abort
from s3sync_agent.deploy.freeze import freeze, unfreeze
from s3sync_agent.deploy.promote import promote_now
from s3sync_agent.deploy.releases import read_pointer
from s3sync_agent.deploy.rollback import rollback, watched
from s3sync_agent.errors import ConfigError, FleetError, PointerConflict, ReleaseRefused, StoreDenied
from s3sync_agent.pointer import Pointer, Rollout, parse_time
from tests.fakes import MemoryBucket
from tests.instances import FakeFleet, Heard, VirtualClock, promoter
from tests.releases import PAGES, SITE, place_pointer, place_release


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def bucket(clock: VirtualClock) -> MemoryBucket:
    return MemoryBucket(clock=clock)


@pytest.fixture
def fleet(bucket: MemoryBucket, clock: VirtualClock) -> FakeFleet:
    """Three instances that served v1 and serve v2; v3 is published."""
    fleet = FakeFleet(bucket, clock)
    for number in range(1, 4):
        fleet.add(f"i-{number}")
    for version in ("v1", "v2", "v3"):
        place_release(bucket, version, PAGES | {"index.html": version.encode()})
    for version in ("v1", "v2"):
        promote_now(promoter(bucket, clock), version, promotion_id=f"promotion-of-{version}")
        fleet.settle()
    assert set(fleet.serving().values()) == {"v2"}
    return fleet


def stored(bucket: MemoryBucket) -> Pointer:
    found = read_pointer(bucket, SITE)
    assert found is not None
    return found[0].pointer


def change(bucket: MemoryBucket, **fields: object) -> None:
    pointer = stored(bucket)
    place_pointer(bucket, msgspec.structs.replace(pointer, sequence=pointer.sequence + 1, **fields))


def deny_fleet(operation: str, key: str) -> None:
    if key.startswith(SITE.fleet):
        raise StoreDenied(f"{operation}: AccessDenied")


# ------------------------------------------------------------------------------- abort


def test_a_poll_before_its_instant_an_active_release_can_be_aborted_and_nobody_has_shown_it(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    promote_now(promoter(bucket, clock), "v3", promotion_id="promotion-of-v3")
    clock.sleep(3)
    done = abort(promoter(bucket, clock))
    assert done.active_changed
    assert "the pointer is back at v2" in done.done
    pointer = stored(bucket)
    assert (pointer.active.version, pointer.active.promotion_id) == ("v2", "promotion-of-v2")
    assert [entry.version for entry in pointer.history] == ["v2", "v1"]
    shown: set[str] = set()
    clock.passing.append(lambda _: shown.update(fleet.serving().values()))
    fleet.settle()
    assert shown == {"v2"}


def test_after_its_instant_it_is_a_matter_of_rolling_back(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    before = bucket.objects[SITE.pointer]
    with pytest.raises(
        ReleaseRefused, match="nothing is under way: everyone is meant to serve v2"
    ) as refused:
        abort(promoter(bucket, clock))
    assert "`s3sync rollback`" in refused.value.hint
    assert bucket.objects[SITE.pointer] == before


def test_unless_an_instance_denies_it(fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock) -> None:
    fleet.instances[0].denied["promotion-of-v2"] = "GET / answered 500"
    clock.sleep(1)
    assert "the pointer is back at v1" in abort(promoter(bucket, clock)).done


def test_a_rollout_is_under_way_however_long_it_lasts(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    change(bucket, rollout=Rollout(10))
    assert "the pointer is back at v1" in abort(promoter(bucket, clock)).done
    assert stored(bucket).rollout is None


def test_a_rollback_whose_instant_is_ahead_cannot_be_aborted_into_itself(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    rollback(promoter(bucket, clock), promotion_id="rollback-1")
    with pytest.raises(ReleaseRefused, match="there is nothing to go back to from v1") as refused:
        abort(promoter(bucket, clock))
    assert "`s3sync promote VERSION --now`" in refused.value.hint


def test_a_first_release_cannot_be_aborted(bucket: MemoryBucket, clock: VirtualClock) -> None:
    with pytest.raises(ReleaseRefused, match="there is no pointer"):
        abort(promoter(bucket, clock))
    place_release(bucket, "v1")
    promote_now(promoter(bucket, clock), "v1", promotion_id="promotion-of-v1")
    with pytest.raises(ReleaseRefused, match="nothing is under way"):
        abort(promoter(bucket, clock))


def test_an_abort_loses_to_whoever_came_first(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    change(bucket, rollout=Rollout(10))

    def overtake(operation: str, key: str) -> None:
        if operation == "put":
            bucket.before = None
            change(bucket, rollout=None)

    bucket.before = overtake
    with pytest.raises(PointerConflict, match="v2 was not taken back: the pointer is at v2 by alice"):
        abort(promoter(bucket, clock))


def test_that_it_could_not_be_taken_back_is_told_beside_why(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.instances[0].lacks_room_for = {"v3"}
    puts = 0

    def overtake(operation: str, key: str) -> None:
        nonlocal puts
        puts += operation == "put"
        if puts == 2:
            bucket.before = None
            change(bucket)

    bucket.before = overtake
    with pytest.raises(FleetError, match="i-1 could not stage it") as failed:
        two_phase.promote(promoter(bucket, clock), "v3", new_id=lambda: "promotion-of-v3")
    assert "\nit could not be taken back: v3 was not taken back: the pointer is at v2" in str(failed.value)


# ---------------------------------------------------------------------------- rollback


def test_a_rollback_waits_for_nobody_and_all_go_at_one_instant(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.instances[2].gone = True
    clock.sleep(500)
    seen: list[set[str]] = []
    clock.passing.append(lambda _: seen.append({f"{i.identity}:{i.live}"[:6] for i in fleet.instances[:2]}))
    now = clock.now()
    who = promoter(bucket, clock)
    promotion = rollback(who, promotion_id="rollback-1")
    assert clock.now() == now
    assert promotion.pointer.active.activate_at is not None
    assert parse_time(promotion.pointer.active.activate_at) == now + 10
    with pytest.raises(
        FleetError, match="v1 is active, but not known to be served everywhere: i-3 was not heard"
    ):
        watched(who, promotion)
    assert clock.now() - now < 80  # the silent one alone: it has until a minute after the instant
    assert {frozenset(each) for each in seen} == {
        frozenset({"i-1:v2", "i-2:v2"}),
        frozenset({"i-1:v1", "i-2:v1"}),
    }
    assert stored(bucket).active.version == "v1"


def test_a_rollback_waits_for_one_that_has_to_stage_it_again(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.instances[0].complete.clear()
    fleet.instances[0]._staging.clear()
    fleet.instances[0].stages_in = 200.0
    who = promoter(bucket, clock)
    promotion = watched(who, rollback(who, promotion_id="rollback-1"))
    assert promotion.figures is not None
    assert promotion.figures.instances == 3


def test_no_instance_can_put_a_rollback_off(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.instances[0].poll = 1e9
    clock.sleep(70)
    at = rollback(promoter(bucket, clock), promotion_id="rollback-1").pointer.active.activate_at
    assert at is not None
    assert parse_time(at) <= clock.now() + 60


def test_a_rollback_takes_what_is_prepared_back_too_and_says_so(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.instances[0].lacks_room_for = {"v3"}
    with pytest.raises(FleetError):
        two_phase.promote(promoter(bucket, clock, take_back=False), "v3", new_id=lambda: "promotion-of-v3")
    heard = Heard()
    rollback(promoter(bucket, clock, heard=heard), promotion_id="rollback-1")
    assert heard.said[1] == "v3, which was prepared, is taken back too"
    assert stored(bucket).prepare is None


def test_a_rollback_does_not_need_the_fleet(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    bucket.before = deny_fleet
    heard = Heard()
    who = promoter(bucket, clock, heard=heard)
    promotion = rollback(who, promotion_id="rollback-1")
    assert "the fleet cannot be looked at: list: AccessDenied; going back all the same" in heard.said
    assert promotion.pointer.active.activate_at is not None
    assert parse_time(promotion.pointer.active.activate_at) == clock.now() + 10
    with pytest.raises(
        FleetError, match="v1 is active, but nobody can say who serves it: list: AccessDenied"
    ):
        watched(who, promotion)
    fleet.settle()
    assert set(fleet.serving().values()) == {"v1"}


def test_an_abort_of_what_is_being_rolled_out_or_ahead_does_not_need_the_fleet(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    change(bucket, rollout=Rollout(10))
    bucket.before = deny_fleet
    assert "the pointer is back at v1" in abort(promoter(bucket, clock)).done


# ------------------------------------------------------------------------------ freeze


def test_a_freeze_keeps_everything_else_and_names_who_when_and_why(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    before = stored(bucket)
    after = freeze(promoter(bucket, clock, by="carol", reason="stocktaking"))
    assert after.freeze is not None
    assert (after.freeze.by, after.freeze.reason) == ("carol", "stocktaking")
    assert parse_time(after.freeze.at) == pytest.approx(clock.now(), abs=0.001)
    assert msgspec.structs.replace(after, freeze=None, sequence=before.sequence) == before
    assert unfreeze(promoter(bucket, clock)) == after
    assert unfreeze(promoter(bucket, clock)) is None


def test_a_freeze_needs_a_reason_a_pointer_and_nobody_before_it(
    bucket: MemoryBucket, clock: VirtualClock
) -> None:
    with pytest.raises(ConfigError, match="a freeze needs a reason"):
        freeze(promoter(bucket, clock, reason="  "))
    with pytest.raises(ReleaseRefused, match="there is no pointer"):
        freeze(promoter(bucket, clock, reason="stocktaking"))
    place_release(bucket, "v1")
    promote_now(promoter(bucket, clock), "v1", promotion_id="promotion-of-v1")
    freeze(promoter(bucket, clock, by="carol", reason="stocktaking"))
    with pytest.raises(ReleaseRefused, match=r"frozen already by carol since 2027-.*: stocktaking"):
        freeze(promoter(bucket, clock, reason="another"))


def test_a_freeze_loses_to_whoever_came_first(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    def overtake(operation: str, key: str) -> None:
        if operation == "put":
            bucket.before = None
            change(bucket)

    bucket.before = overtake
    with pytest.raises(PointerConflict, match="the site was not frozen: the pointer is at v2 by alice"):
        freeze(promoter(bucket, clock, reason="stocktaking"))


# --------------------------------------------------------------------- tried again, alone


def test_a_release_that_was_denied_and_held_is_tried_again_under_a_new_id(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.instances[0].refuses = {"v3"}
    with pytest.raises(FleetError, match="i-1 denied it"):
        two_phase.promote(promoter(bucket, clock, take_back=False), "v3", new_id=lambda: "first-try")
    fleet.instances[0].refuses = set()  # somebody repaired nginx there
    done = two_phase.promote(promoter(bucket, clock), "v3", new_id=lambda: "second-try")
    assert done.pointer.active.promotion_id == "second-try"
    assert set(fleet.serving().values()) == {"v3"}
    assert done.pointer.baseline is not None
    assert done.pointer.baseline.version == "v2"


def test_a_first_release_that_is_denied_stays_for_there_is_nothing_else(
    bucket: MemoryBucket, clock: VirtualClock
) -> None:
    place_release(bucket, "v1")
    fleet = FakeFleet(bucket, clock)
    fleet.add("i-1", refuses={"v1"})
    clock.sleep(1)
    with pytest.raises(FleetError, match="i-1 denied it: GET / answered 500") as denied:
        two_phase.promote(promoter(bucket, clock, expect=1), "v1", new_id=lambda: "promotion-1")
    assert "the pointer stays as it is: there is no release to go back to" in str(denied.value)
    assert stored(bucket).active.version == "v1"
