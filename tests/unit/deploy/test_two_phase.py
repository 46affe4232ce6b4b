from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
import pytest

from s3sync_agent.deploy import two_phase
from s3sync_agent.deploy.abort import abort
from s3sync_agent.deploy.freeze import freeze, unfreeze
from s3sync_agent.deploy.promote import Promotion, promote_now
from s3sync_agent.deploy.promoter import Promoter
from s3sync_agent.deploy.releases import read_pointer
from s3sync_agent.errors import (
    FleetError,
    PointerConflict,
    ReleaseRefused,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from s3sync_agent.gate import Standing
from s3sync_agent.pointer import Pointer, activated, parse_pointer, parse_time
from tests.fakes import MemoryBucket
from tests.instances import FakeFleet, Heard, VirtualClock, promoter
from tests.releases import NOON, PAGES, SITE, place_pointer, place_release

Make = Callable[..., Promoter]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def bucket(clock: VirtualClock) -> MemoryBucket:
    return MemoryBucket(clock=clock)


@pytest.fixture
def fleet(bucket: MemoryBucket, clock: VirtualClock) -> FakeFleet:
    """Three instances that serve v1; v2 and v3 are there too."""
    for version in ("v1", "v2", "v3"):
        place_release(bucket, version, PAGES | {"index.html": version.encode()})
    promote_now(promoter(bucket, clock), "v1", promotion_id="promotion-of-v1")
    fleet = FakeFleet(bucket, clock)
    for number in range(1, 4):
        fleet.add(f"i-{number}")
    fleet.settle()
    assert set(fleet.serving().values()) == {"v1"}
    return fleet


_ids = itertools.count()


def promote(who: Promoter, version: str = "v2", *, force: bool = False) -> Promotion:
    return two_phase.promote(who, version, new_id=lambda: f"promotion-{next(_ids):06}", force=force)


def stored(bucket: MemoryBucket) -> Pointer:
    found = read_pointer(bucket, SITE)
    assert found is not None
    return found[0].pointer


# ------------------------------------------------------------------------ it goes well


def test_everybody_has_it_before_anybody_shows_it_and_all_show_it_at_once(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.instances[1].stages_in = 40.0
    shown: list[tuple[float, set[str]]] = []
    clock.passing.append(lambda now: shown.append((now, set(fleet.serving().values()))))
    done = promote(promoter(bucket, clock))
    assert [served for _, served in shown if len(served) > 1] == []  # never a mixture of two
    assert set(fleet.serving().values()) == {"v2"}
    first = next(now for now, served in shown if served == {"v2"})
    assert done.pointer.active.activate_at is not None
    assert first - parse_time(done.pointer.active.activate_at) <= 0.2
    assert first > NOON + 30 + 40
    assert done.pointer == stored(bucket)
    assert done.pointer.prepare is None
    assert done.pointer.history[0].by == "alice"
    assert done.pointer.baseline is not None
    assert done.pointer.baseline.version == "v1"


def test_the_instant_is_two_polls_ahead_of_the_slowest(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.instances[0].poll = 20.0
    clock.sleep(100)
    heard = Heard()
    promote(promoter(bucket, clock, heard=heard))
    at = parse_time(stored(bucket).active.activate_at or "")
    written = next(float(text.split()[-1].rstrip(")")) for text in heard.said if "goes live" in text)
    assert 40 <= at - written <= 42


def test_the_figures_tell_how_it_went(fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock) -> None:
    fleet.instances[2].stages_in = 7.0
    figures = promote(promoter(bucket, clock)).figures
    assert figures is not None
    assert (figures.instances, figures.stage_p50, figures.stage_max) == (3, 2.0, 7.0)
    assert figures.skew is not None
    assert figures.skew <= 0.1


def test_a_first_promotion_has_nobody_to_wait_for(bucket: MemoryBucket, clock: VirtualClock) -> None:
    place_release(bucket, "v1")
    assert promote(promoter(bucket, clock), "v1").figures is None
    assert stored(bucket).active.version == "v1"
    assert clock.slept == 0


def test_a_first_promotion_waits_until_somebody_serves_it_where_instances_wait_for_it(
    bucket: MemoryBucket, clock: VirtualClock
) -> None:
    place_release(bucket, "v1")
    fleet = FakeFleet(bucket, clock)
    fleet.add("i-1", stages_in=100.0)
    clock.sleep(5)
    done = promote(promoter(bucket, clock), "v1")
    assert done.figures is not None
    assert fleet.serving() == {"i-1": "v1"}


def test_a_first_promotion_that_the_instances_find_wrong_does_not_pass_for_done(
    bucket: MemoryBucket, clock: VirtualClock
) -> None:
    place_release(bucket, "v1")
    fleet = FakeFleet(bucket, clock)
    fleet.add("i-1", lacks_room_for={"v1"})
    clock.sleep(5)
    with pytest.raises(FleetError, match="nobody serves it yet"):
        promote(promoter(bucket, clock), "v1")


def test_a_first_promotion_waits_for_those_who_are_expected(
    bucket: MemoryBucket, clock: VirtualClock
) -> None:
    place_release(bucket, "v1")
    fleet = FakeFleet(bucket, clock)
    for number in range(3):
        fleet.add(f"i-{number}", stages_in=100.0)
    clock.sleep(5)
    done = promote(promoter(bucket, clock, expect=3), "v1")
    assert done.figures is not None
    assert done.figures.instances == 3
    assert set(fleet.serving().values()) == {"v1"}


def test_a_look_costs_a_listing_and_a_conditional_get_when_nothing_changed(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.instances[0].stages_in = 30.0
    bucket.requests.clear()
    promote(promoter(bucket, clock))
    listings, gets = bucket.count("list"), bucket.count("get")
    assert listings > 60
    assert gets < 40  # the release, and each heartbeat when it changed
    assert bucket.count("get_if_changed") in range(listings - 5, listings + 1)


def test_newcomers_are_not_waited_for(fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock) -> None:
    def scale_out(now: float) -> None:
        if now > NOON + 31 and len(fleet.instances) == 3:
            fleet.add("i-late", stages_in=500.0)

    clock.passing.append(scale_out)
    promote(promoter(bucket, clock))
    assert len(fleet.instances) == 4
    assert clock.slept < 120


def test_an_instance_that_is_terminated_meanwhile_is_not_waited_for(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    def terminate(now: float) -> None:
        if now > NOON + 33 and not fleet.instances[2].gone:
            fleet.instances[2].gone = True
            del bucket.objects[SITE.heartbeat("i-3")]

    fleet.instances[2].stages_in = 1000.0
    clock.passing.append(terminate)
    done = promote(promoter(bucket, clock))
    assert done.figures is not None
    assert done.figures.instances == 2


# ----------------------------------------------------------- somebody cannot, or is quiet


def test_one_that_cannot_stage_it_stops_it_before_anybody_shows_it(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.instances[1].lacks_room_for = {"v2"}
    with pytest.raises(FleetError) as stopped:
        promote(promoter(bucket, clock))
    assert str(stopped.value) == (
        "v2 was not promoted: i-2 could not stage it: DiskFull: needs 3 GiB, has 1 GiB\n"
        "v2 is not prepared any more; nothing that is served has changed"
    )
    assert stopped.value.hint == "i-2: make room"
    assert stopped.value.exit_code == 6
    assert stored(bucket).prepare is None
    assert set(fleet.serving().values()) == {"v1"}


def test_on_failure_hold_leaves_it_prepared(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.instances[1].lacks_room_for = {"v2"}
    with pytest.raises(FleetError, match="v2 stays prepared; `s3sync abort` takes it back"):
        promote(promoter(bucket, clock, take_back=False))
    assert stored(bucket).prepare is not None


def test_one_that_finds_it_wrong_takes_the_whole_fleet_back(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.instances[1].refuses = {"v2"}
    with pytest.raises(FleetError, match="v2 does not work: i-2 denied it: GET / answered 500") as denied:
        promote(promoter(bucket, clock))
    assert "the pointer is back at v1" in str(denied.value)
    assert stored(bucket).active.version == "v1"
    assert stored(bucket).history[0].version == "v1"
    fleet.settle()
    assert set(fleet.serving().values()) == {"v1"}


def test_what_was_denied_and_held_is_never_the_baseline_of_what_comes_next(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.instances[1].refuses = {"v2"}
    with pytest.raises(FleetError):
        promote(promoter(bucket, clock, take_back=False))
    promote(promoter(bucket, clock), "v3")
    baseline = stored(bucket).baseline
    assert baseline is not None
    assert baseline.version == "v1"


def test_on_failure_hold_leaves_a_bad_release_for_a_look(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.instances[1].refuses = {"v2"}
    with pytest.raises(FleetError, match="the pointer stays as it is; `s3sync abort` takes it back"):
        promote(promoter(bucket, clock, take_back=False))
    assert stored(bucket).active.version == "v2"
    assert abort(promoter(bucket, clock)).done.startswith("the pointer is back at v1")


def test_a_bad_release_that_was_held_can_be_tried_again_and_taken_back_still(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.instances[1].refuses = {"v2"}
    with pytest.raises(FleetError):
        promote(promoter(bucket, clock, take_back=False))
    with pytest.raises(FleetError, match="the pointer is back at v1"):
        promote(promoter(bucket, clock))
    assert stored(bucket).active.version == "v1"


@pytest.mark.parametrize("how", ["killed", "stopped", "clock"])
def test_silence_a_stop_and_a_wrong_clock_block_until_the_time_is_over(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock, how: str
) -> None:
    quiet = fleet.instances[1]
    match how:
        case "killed":
            quiet.gone = True
            clock.sleep(200)
        case "stopped":
            quiet.stop(clock.now())
        case _:
            quiet.clock_offset = -7.0
            clock.sleep(10)
    expected = {
        "killed": "i-2 was not heard of for",
        "stopped": "i-2 has a stopped agent",
        "clock": "i-2 has a clock 7 s behind S3's",
    }[how]
    before = clock.slept
    with pytest.raises(FleetError, match=f"v2 was not promoted: not ready after 60 s: {expected}") as blocked:
        promote(promoter(bucket, clock, timeout=60))
    assert 60 <= clock.slept - before <= 61
    assert "`s3sync promote v2 --ignore i-2` does not wait" in blocked.value.hint
    assert stored(bucket).prepare is None
    assert promote(promoter(bucket, clock, timeout=60, ignore=("i-2",))).pointer.active.version == "v2"


def test_silence_after_the_instant_is_named_and_the_pointer_left(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    def cut(now: float) -> None:
        if stored(bucket).active.version == "v2":
            fleet.instances[0].mute = True

    clock.passing.append(cut)
    with pytest.raises(
        FleetError, match="v2 is active, but not known to be served everywhere: i-1 "
    ) as silent:
        promote(promoter(bucket, clock))
    assert "the pointer stays as it is" in str(silent.value)
    assert stored(bucket).active.version == "v2"
    assert set(fleet.serving().values()) == {"v2"}


def test_without_any_heartbeat_nothing_is_written(bucket: MemoryBucket, clock: VirtualClock) -> None:
    for version in ("v1", "v2"):
        place_release(bucket, version)
    promote(promoter(bucket, clock), "v1")
    before = bucket.objects[SITE.pointer]
    with pytest.raises(FleetError, match="no instance writes heartbeats") as nobody:
        promote(promoter(bucket, clock))
    assert "`s3sync promote v2 --now`" in nobody.value.hint
    assert bucket.objects[SITE.pointer] == before


def test_fewer_instances_than_expected_block(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    with pytest.raises(FleetError, match="not ready after 30 s: 1 fewer instances than expected"):
        promote(promoter(bucket, clock, expect=4, timeout=30))
    assert promote(promoter(bucket, clock, expect=3)).pointer.active.version == "v2"


def test_members_of_the_group_are_waited_for_and_those_who_left_it_are_not(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    for instance in fleet.instances:
        instance.instance_id = instance.identity
    clock.sleep(10)
    fleet.instances[2].gone = True  # and its heartbeat stays behind
    clock.sleep(200)
    with pytest.raises(FleetError, match="i-9 is in the group and has no heartbeat"):
        promote(promoter(bucket, clock, timeout=30, members=lambda: frozenset({"i-1", "i-2", "i-9"})))
    done = promote(promoter(bucket, clock, members=lambda: frozenset({"i-1", "i-2"})))
    assert done.figures is not None
    assert done.figures.instances == 2


def test_what_cannot_be_read_is_named_and_blocks_and_hides_nobody(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    bucket.place(SITE.heartbeat("i-new"), b'{"type":"s3sync-heartbeat","schema":2}')
    heard = Heard()
    with pytest.raises(FleetError, match="i-new has a heartbeat that cannot be read: its schema 2"):
        promote(promoter(bucket, clock, timeout=30, heard=heard))
    standings = {place.name: place.standing for place in heard.looks[-1][1].places}
    assert standings == {
        "i-1": Standing.READY,
        "i-2": Standing.READY,
        "i-3": Standing.READY,
        "i-new": Standing.UNREADABLE,
    }


# ----------------------------------------------------------------------- interruptions


class Killed(BaseException):
    """SIGKILL: no line of the program runs after it."""


def killed_when(clock: VirtualClock, condition: Callable[[], bool]) -> None:
    def kill(now: float) -> None:
        if condition():
            clock.passing.remove(kill)
            raise Killed

    clock.passing.append(kill)


def test_killed_while_it_is_prepared_the_same_command_finishes(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.instances[0].stages_in = 20.0
    killed_when(clock, lambda: stored(bucket).prepare is not None and clock.now() > NOON + 40)
    with pytest.raises(Killed):
        promote(promoter(bucket, clock))
    prepared = stored(bucket).prepare
    assert prepared is not None
    done = promote(promoter(bucket, clock))
    assert done.pointer.active.promotion_id == prepared.promotion_id
    assert set(fleet.serving().values()) == {"v2"}


def test_killed_after_it_is_active_the_same_command_watches_on_and_writes_nothing(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    killed_when(clock, lambda: stored(bucket).active.version == "v2")
    with pytest.raises(Killed):
        promote(promoter(bucket, clock))
    before = bucket.objects[SITE.pointer]
    done = promote(promoter(bucket, clock))
    assert bucket.objects[SITE.pointer] == before
    assert done.figures is not None
    assert done.figures.instances == 3


def test_what_is_prepared_and_was_refused_gets_a_new_id_when_it_is_tried_again(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.instances[1].lacks_room_for = {"v2"}
    with pytest.raises(FleetError):
        promote(promoter(bucket, clock, take_back=False))
    first = stored(bucket).prepare
    fleet.instances[1].lacks_room_for = set()
    done = promote(promoter(bucket, clock))
    assert first is not None
    assert done.pointer.active.promotion_id != first.promotion_id


def test_an_interrupt_says_what_goes_on_and_what_takes_back(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    def interrupt(now: float) -> None:
        if stored(bucket).prepare is not None:
            clock.passing.remove(interrupt)
            raise KeyboardInterrupt

    clock.passing.append(interrupt)
    heard = Heard()
    with pytest.raises(KeyboardInterrupt):
        promote(promoter(bucket, clock, heard=heard))
    assert heard.said[-1] == (
        "v2 stays prepared and nothing that is served has changed: `s3sync promote v2` goes on, "
        "`s3sync abort` takes it back"
    )
    assert stored(bucket).prepare is not None


def test_s3_may_be_away_for_a_while(fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock) -> None:
    def outage(now: float) -> None:
        bucket.outage = StoreUnavailable("timed out") if NOON + 33 < now < NOON + 50 else None

    clock.passing.append(outage)
    heard = Heard()
    promote(promoter(bucket, clock, heard=heard))
    assert heard.said.count("timed out; trying again") == 1
    assert set(fleet.serving().values()) == {"v2"}


def test_s3_may_not_be_away_for_ever(fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock) -> None:
    def outage(now: float) -> None:
        if now > NOON + 33:
            bucket.outage = StoreUnavailable("timed out")

    clock.passing.append(outage)
    with pytest.raises(StoreUnavailable, match="timed out"):
        promote(promoter(bucket, clock, timeout=60))


# ------------------------------------------------------------------ somebody else, a freeze


def test_beside_another_promotion_it_is_refused_with_the_way_out(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    killed_when(clock, lambda: stored(bucket).prepare is not None)
    with pytest.raises(Killed):
        promote(promoter(bucket, clock))
    with pytest.raises(PointerConflict, match="v3 was not promoted: v2 is prepared since 2027-") as refused:
        promote(promoter(bucket, clock), "v3")
    assert "`s3sync promote v2` goes on with it, `s3sync abort` takes it back" in refused.value.hint
    abort(promoter(bucket, clock))
    assert promote(promoter(bucket, clock), "v3").pointer.active.version == "v3"


@pytest.mark.parametrize(
    ("meanwhile", "told"),
    [
        ("abort", "somebody else moved the pointer: it is at v1 by alice"),
        ("freeze", "promotions are frozen by carol: the day before Christmas"),
        ("now", "it is at v3 by carol at "),
        ("delete", "the pointer was deleted meanwhile"),
        ("garbage", "somebody put an unreadable pointer there"),
    ],
)
def test_whoever_moves_the_pointer_meanwhile_is_named(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock, meanwhile: str, told: str
) -> None:
    carol = promoter(bucket, clock, by="carol", reason="the day before Christmas")

    def meddle(now: float) -> None:
        if stored(bucket).prepare is None:
            return
        clock.passing.remove(meddle)
        match meanwhile:
            case "abort":
                abort(carol)
            case "freeze":
                freeze(carol)
            case "now":
                promote_now(carol, "v3", promotion_id="carol-was-here", force=True)
            case "delete":
                del bucket.objects[SITE.pointer]
            case _:
                bucket.place(SITE.pointer, b"garbage")

    fleet.instances[0].stages_in = 30.0
    clock.passing.append(meddle)
    with pytest.raises(PointerConflict, match=told) as moved:
        promote(promoter(bucket, clock))
    assert moved.value.exit_code == 5


def test_a_freeze_that_comes_after_the_instant_was_written_changes_nothing(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    def meddle(now: float) -> None:
        if stored(bucket).active.version == "v2":
            clock.passing.remove(meddle)
            freeze(promoter(bucket, clock, reason="night"))

    clock.passing.append(meddle)
    assert promote(promoter(bucket, clock)).pointer.freeze is not None


def test_while_frozen_a_promotion_is_refused_with_who_when_and_why(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    freeze(promoter(bucket, clock, by="carol", reason="the shop is full"))
    with pytest.raises(ReleaseRefused, match=r"by carol since 2027-.*: the shop is full") as refused:
        promote(promoter(bucket, clock), force=True)
    assert "s3sync unfreeze" in refused.value.hint
    with pytest.raises(ReleaseRefused, match="the shop is full"):
        promote_now(promoter(bucket, clock), "v2", promotion_id="promotion-9", force=True)
    unfreeze(promoter(bucket, clock))
    assert promote(promoter(bucket, clock)).pointer.active.version == "v2"


def test_the_guards_of_a_promotion_hold_here_too(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    place_release(bucket, "v2", {"page.html": b"no index"})
    before = bucket.objects[SITE.pointer]
    with pytest.raises(ReleaseRefused, match=r"v2 has no index\.html"):
        promote(promoter(bucket, clock))
    assert bucket.objects[SITE.pointer] == before
    assert promote(promoter(bucket, clock), force=True).overridden


def test_nothing_that_was_prepared_leaves_history_or_ids_behind(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.instances[1].lacks_room_for = {"v2"}
    before = stored(bucket)
    with pytest.raises(FleetError):
        promote(promoter(bucket, clock))
    after = stored(bucket)
    assert msgspec.structs.replace(after, sequence=before.sequence) == before


# --------------------------------------------------------------------- nobody to ask


@pytest.mark.parametrize("why", ["ignored", "not in the group", "deleted"])
def test_a_gate_with_nobody_in_it_does_not_let_a_release_through(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock, why: str
) -> None:
    for instance in fleet.instances:
        instance.instance_id = instance.identity
    clock.sleep(10)

    def delete(now: float) -> None:
        if stored(bucket).prepare is not None:
            clock.passing.remove(delete)
            for instance in fleet.instances:
                instance.mute = True
                del bucket.objects[SITE.heartbeat(instance.identity)]

    match why:
        case "ignored":
            who = promoter(bucket, clock, ignore=("i-1", "i-2", "i-3"))
        case "deleted":
            fleet.instances[0].stages_in = 30.0
            clock.passing.append(delete)
            who = promoter(bucket, clock)
        case _:
            who = promoter(bucket, clock, members=frozenset)
    with pytest.raises(FleetError, match="v2 was not promoted: nobody is left who could say") as nobody:
        promote(who)
    assert "v2 is not prepared any more" in str(nobody.value)
    assert "`s3sync promote v2 --now`" in nobody.value.hint
    assert stored(bucket).active.version == "v1"


def test_newcomers_alone_get_a_better_release_than_the_one_they_cannot_take(
    bucket: MemoryBucket, clock: VirtualClock
) -> None:
    for version in ("v1", "v2"):
        place_release(bucket, version)
    fleet = FakeFleet(bucket, clock)
    fleet.add("i-1", lacks_room_for={"v1"})
    promote_now(promoter(bucket, clock), "v1", promotion_id="promotion-of-v1")
    fleet.settle()
    heard = Heard()
    promote(promoter(bucket, clock, heard=heard))
    assert "no instance serves anything yet: nobody is waited for" in heard.said
    fleet.settle()
    assert fleet.serving() == {"i-1": "v2"}


def test_what_is_active_already_needs_no_heartbeats(bucket: MemoryBucket, clock: VirtualClock) -> None:
    place_release(bucket, "v1")
    promote(promoter(bucket, clock), "v1")
    before = bucket.objects[SITE.pointer]
    assert promote(promoter(bucket, clock), "v1").pointer.active.version == "v1"
    assert bucket.objects[SITE.pointer] == before


def test_when_all_are_gone_after_the_instant_nobody_says_that_it_is_served(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    def delete(now: float) -> None:
        if stored(bucket).active.version == "v2":
            clock.passing.remove(delete)
            for instance in fleet.instances:
                instance.gone = True
                del bucket.objects[SITE.heartbeat(instance.identity)]

    clock.passing.append(delete)
    with pytest.raises(FleetError, match="not known to be served everywhere: nobody is left who could"):
        promote(promoter(bucket, clock))


# ----------------------------------------------------------------- what cannot be read


def test_one_heartbeat_that_s3_does_not_give_away_is_named_and_hides_nobody(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    def deny(operation: str, key: str) -> None:
        if operation == "get" and key == SITE.heartbeat("i-odd"):
            raise StoreDenied("get: AWS answered InvalidObjectState")

    bucket.place(SITE.heartbeat("i-odd"), b"in an archive")
    bucket.before = deny
    with pytest.raises(FleetError, match="after 30 s: i-odd has a heartbeat that cannot be read: get: AWS"):
        promote(promoter(bucket, clock, timeout=30))
    assert promote(promoter(bucket, clock, ignore=("i-odd",))).pointer.active.version == "v2"


def test_who_may_read_no_heartbeat_at_all_is_told_at_once(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    def deny(operation: str, key: str) -> None:
        if operation == "get" and key.startswith(SITE.fleet):
            raise StoreDenied("get: AccessDenied")

    bucket.before = deny
    with pytest.raises(StoreDenied, match="AccessDenied"):
        promote(promoter(bucket, clock))
    assert stored(bucket).prepare is None


def test_what_cannot_be_read_is_known_by_its_instance_id_too(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    bucket.place(SITE.heartbeat("AROAEXAMPLE:i-9"), b"garbage")
    assert promote(promoter(bucket, clock, ignore=("i-9",))).pointer.active.version == "v2"
    members = frozenset({"i-1", "i-2", "i-3"})
    done = promote(promoter(bucket, clock, members=lambda: members), "v3")  # it left the group
    assert done.pointer.active.version == "v3"


# -------------------------------------------------------------- interrupted by S3, not by hand


@pytest.mark.parametrize("error", [StoreUnavailable("timed out"), StoreDenied("ExpiredToken")])
def test_when_s3_ends_it_what_stands_is_told(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock, error: StoreError
) -> None:
    def outage(now: float) -> None:
        if stored(bucket).prepare is not None:
            bucket.outage = error

    fleet.instances[0].stages_in = 30.0
    clock.passing.append(outage)
    heard = Heard()
    with pytest.raises(type(error)):
        promote(promoter(bucket, clock, timeout=60, heard=heard))
    assert heard.said[-1].startswith("v2 stays prepared and nothing that is served has changed: ")


def test_s3_that_fails_right_after_the_pointer_was_written_does_not_hide_that_it_was(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    def fail(operation: str, key: str) -> None:
        if operation == "head" and key == SITE.manifest("v2"):
            raise StoreUnavailable("timed out")

    bucket.before = fail
    heard = Heard()
    with pytest.raises(StoreError, match="v2 was prepared, but nobody could be asked whether") as cut:
        promote(promoter(bucket, clock, heard=heard))
    assert "timed out" in str(cut.value)
    assert heard.said[-1].startswith("v2 stays prepared")


def test_of_two_who_carry_the_same_promotion_on_the_slower_is_told_that(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    def overtake(operation: str, key: str) -> None:
        found = parse_pointer(bucket.objects[SITE.pointer].body).pointer
        if operation == "put" and found.prepare is not None:
            bucket.before = None
            after = activated(found, activate_at=None, percent=None, by="bob", reason="", now=clock.now())
            place_pointer(bucket, after)

    bucket.before = overtake
    with pytest.raises(PointerConflict, match="v2 is promoted already: the pointer is at v2 by bob") as lost:
        promote(promoter(bucket, clock))
    assert "`s3sync promote v2` watches on" in lost.value.hint


def test_the_hint_can_be_typed_as_it_stands(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    fleet.add("web $(reboot) 4").tick(clock.now())
    fleet.settle()
    fleet.instances[3].gone = True
    clock.sleep(200)
    with pytest.raises(FleetError) as stopped:
        promote(promoter(bucket, clock, timeout=30))
    assert "--ignore 'web $(reboot) 4'` does not wait" in stopped.value.hint
    assert promote(promoter(bucket, clock, ignore=("web $(reboot) 4",))).pointer.active.version == "v2"
