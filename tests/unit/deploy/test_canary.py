from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from s3sync_agent.deploy import two_phase
from s3sync_agent.deploy.abort import abort
from s3sync_agent.deploy.canary import Steps
from s3sync_agent.deploy.freeze import freeze, unfreeze
from s3sync_agent.deploy.promote import Promotion, promote_now
from s3sync_agent.deploy.releases import read_pointer
from s3sync_agent.errors import FleetError, PointerConflict
from s3sync_agent.pointer import Pointer
from s3sync_agent.rollout import share_of
from s3sync_agent.sightings import HEARTBEAT_INTERVAL
from tests.fakes import MemoryBucket
from tests.instances import FakeFleet, Heard, VirtualClock, promoter
from tests.releases import NOON, PAGES, SITE, place_release

BAKE = 120.0
ID = "promotion-of-v2"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def bucket(clock: VirtualClock) -> MemoryBucket:
    return MemoryBucket(clock=clock)


@pytest.fixture
def fleet(bucket: MemoryBucket, clock: VirtualClock) -> FakeFleet:
    """Five instances that serve v1; v2 and v3 are there too."""
    for version in ("v1", "v2", "v3"):
        place_release(bucket, version, PAGES | {"index.html": version.encode()})
    promote_now(promoter(bucket, clock), "v1", promotion_id="promotion-of-v1")
    fleet = FakeFleet(bucket, clock)
    for number in range(1, 6):
        fleet.add(f"i-{number}", poll=1.0)
    fleet.settle()
    return fleet


def canary(
    bucket: MemoryBucket,
    clock: VirtualClock,
    *shares: int,
    heard: Heard | None = None,
    take_back: bool = True,
    bake: float = BAKE,
    version: str = "v2",
) -> Promotion:
    who = promoter(bucket, clock, heard=heard, take_back=take_back)
    return two_phase.promote(who, version, new_id=lambda: ID, steps=Steps(shares, bake))


def stored(bucket: MemoryBucket) -> Pointer:
    found = read_pointer(bucket, SITE)
    assert found is not None
    return found[0].pointer


def takers(fleet: FakeFleet, percent: int) -> set[str]:
    return {each.identity for each in fleet.instances if share_of(each.identity, ID) < percent}


def having(fleet: FakeFleet, version: str) -> set[str]:
    return {identity for identity, served in fleet.serving().items() if served == version}


def history(clock: VirtualClock, fleet: FakeFleet) -> list[tuple[float, frozenset[str]]]:
    """Who served v2, and since when: grows while time passes."""
    seen: list[tuple[float, frozenset[str]]] = []

    def note(now: float) -> None:
        served = frozenset(having(fleet, "v2"))
        if not seen or seen[-1][1] != served:
            seen.append((now, served))

    clock.passing.append(note)
    return seen


def test_one_that_dies_in_a_bake_shorter_than_its_silence_does_not_pass_for_alive(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    share = int(min(share_of(each.identity, ID) for each in fleet.instances)) + 1
    tries = next(each for each in fleet.instances if share_of(each.identity, ID) < share)

    def dies(_: float) -> None:
        if tries.live and tries.live.startswith("v2") and tries.promotion_id in tries.good:
            tries.gone = True

    clock.passing.append(dies)
    with pytest.raises(FleetError, match="does not go on to everyone"):
        canary(bucket, clock, share, bake=5.0)
    assert having(fleet, "v2") <= {tries.identity}


def test_each_share_tries_it_for_a_while_before_the_next_joins(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    seen = history(clock, fleet)
    first, second = sorted(share_of(each.identity, ID) for each in fleet.instances)[:2]
    few, more = int(first) + 1, int(second) + 1
    done = canary(bucket, clock, few, more)
    assert [served for _, served in seen] == [
        frozenset(),
        takers(fleet, few),
        takers(fleet, more),
        frozenset(each.identity for each in fleet.instances),
    ]
    for (earlier, _), (later, _) in pairwise(seen[1:]):
        assert BAKE <= later - earlier < BAKE + HEARTBEAT_INTERVAL + 15  # until all were heard of afterwards
    pointer = stored(bucket)
    assert done.pointer == pointer
    assert (pointer.rollout, pointer.prepare) == (None, None)
    assert [entry.version for entry in pointer.history] == ["v2", "v1"]
    assert pointer.baseline is not None
    assert pointer.baseline.version == "v1"
    assert done.figures is not None
    assert done.figures.instances == 5
    assert done.figures.skew is not None
    assert done.figures.skew <= 0.2  # of those who joined last


def test_somebody_takes_it_however_small_the_share_and_is_named(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    heard = Heard()
    seen = history(clock, fleet)
    canary(bucket, clock, 1, heard=heard)
    (only,) = seen[1][1]
    assert share_of(only, ID) == min(share_of(each.identity, ID) for each in fleet.instances)
    assert any(text.startswith("v2 goes live on ") and text.endswith(f": {only}") for text in heard.said)


def test_canaries_by_configuration_always_take_part(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    chosen = max(fleet.instances, key=lambda each: share_of(each.identity, ID))
    chosen.canary = True
    clock.sleep(5)
    heard = Heard()
    seen = history(clock, fleet)
    canary(bucket, clock, 1, heard=heard)
    assert seen[1][1] == {chosen.identity}
    assert any(text.endswith(f": {chosen.identity} (canary)") for text in heard.said)


def test_everybody_has_it_on_disk_before_the_first_tries_it(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    last = max(fleet.instances, key=lambda each: share_of(each.identity, ID))
    last.lacks_room_for = {"v2"}
    with pytest.raises(FleetError, match=f"v2 was not promoted: {last.identity} could not stage it"):
        canary(bucket, clock, 10)
    assert having(fleet, "v2") == set()


def first_taker(fleet: FakeFleet) -> str:
    return min(fleet.instances, key=lambda each: share_of(each.identity, ID)).identity


@pytest.mark.parametrize("what", ["denies", "falls silent", "is terminated"])
def test_a_share_that_does_not_do_well_goes_back_and_nobody_else_had_it(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock, what: str
) -> None:
    seen = history(clock, fleet)
    name = first_taker(fleet)
    taker = next(each for each in fleet.instances if each.identity == name)

    def trouble(now: float) -> None:
        if having(fleet, "v2") and seen[-1][0] + 30 < now and stored(bucket).rollout is not None:
            clock.passing.remove(trouble)
            match what:
                case "denies":
                    taker.denied[taker.promotion_id] = "GET / answered 500"
                case "falls silent":
                    taker.gone = True
                case _:
                    taker.gone = True
                    del bucket.objects[SITE.heartbeat(name)]

    clock.passing.append(trouble)
    told = {
        "denies": f"{name} denied it: GET / answered 500",
        "falls silent": f"{name} was not heard of for 18",
        "is terminated": "no instance is left that tries it",
    }[what]
    with pytest.raises(FleetError, match=f"v2 does not go on to everyone: {told}") as stopped:
        canary(bucket, clock, 1, bake=600.0)
    assert "the pointer is back at v1" in str(stopped.value)
    assert all(served <= {name} for _, served in seen)
    pointer = stored(bucket)
    assert (pointer.active.version, pointer.rollout) == ("v1", None)
    assert pointer.active.promotion_id == "promotion-of-v1"
    assert [entry.version for entry in pointer.history] == ["v1"]


def test_one_that_finds_it_wrong_at_once_takes_it_back(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    for each in fleet.instances:
        each.refuses = {"v2"}
    with pytest.raises(FleetError, match=r"v2 does not work: i-\d denied it") as stopped:
        canary(bucket, clock, 1)
    assert "the pointer is back at v1" in str(stopped.value)
    fleet.settle()
    assert having(fleet, "v1") == {each.identity for each in fleet.instances}


def test_a_taker_that_never_says_how_it_went_is_a_failure_too(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    for each in fleet.instances:
        each.probes_in = 9999.0
    with pytest.raises(FleetError, match="v2 is not known to be served where it should be tried") as stopped:
        canary(bucket, clock, 1)
    assert "not probed yet" in str(stopped.value)
    assert "the pointer is back at v1" in str(stopped.value)


def test_on_failure_hold_leaves_the_share_for_a_look(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    for each in fleet.instances:
        each.refuses = {"v2"}
    with pytest.raises(FleetError, match="the pointer stays as it is; `s3sync abort` takes it back"):
        canary(bucket, clock, 1, take_back=False)
    assert stored(bucket).rollout is not None
    assert abort(promoter(bucket, clock)).done.startswith("the pointer is back at v1")


def test_an_agent_that_is_upgraded_while_it_bakes_is_no_failure(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    taker = next(each for each in fleet.instances if each.identity == first_taker(fleet))
    stopped_at = 0.0

    def upgrade(now: float) -> None:
        nonlocal stopped_at
        if not stopped_at and having(fleet, "v2"):
            stopped_at = now + BAKE - 5
        elif stopped_at and not taker.gone and stopped_at < now < stopped_at + 1:
            taker.stop(now)
        elif taker.gone and now > stopped_at + 20:
            taker.gone = False
            clock.passing.remove(upgrade)

    clock.passing.append(upgrade)
    assert canary(bucket, clock, 1).pointer.rollout is None
    assert stopped_at


def test_newcomers_obey_the_same_pointer_and_hold_nothing_up(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    def scale_out(now: float) -> None:
        if having(fleet, "v2") and len(fleet.instances) == 5:
            fleet.add("i-6", poll=1.0)
            fleet.add("i-7", poll=1.0, stages_in=9999.0)
            clock.passing.remove(scale_out)

    clock.passing.append(scale_out)
    done = canary(bucket, clock, 1)
    assert having(fleet, "v2") == {f"i-{number}" for number in range(1, 7)}
    assert done.figures is not None


class Killed(BaseException):
    """SIGKILL: no line of the program runs after it."""


def kill_when(clock: VirtualClock, condition: Callable[[float], bool]) -> None:
    def kill(now: float) -> None:
        if condition(now):
            clock.passing.remove(kill)
            raise Killed

    clock.passing.append(kill)


def test_killed_while_it_bakes_the_same_command_goes_on_from_the_share(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    seen = history(clock, fleet)
    kill_when(clock, lambda now: bool(having(fleet, "v2")) and now > seen[-1][0] + BAKE / 2)
    with pytest.raises(Killed):
        canary(bucket, clock, 1, 99)
    reached = stored(bucket).rollout
    assert reached is not None
    heard = Heard()
    resumed_at = clock.now()
    canary(bucket, clock, 1, 99, heard=heard)
    assert heard.said[0] == f"v2 is on {reached.percent} % already"
    assert clock.now() - resumed_at > 2 * BAKE  # a whole bake at each step that was left
    assert len(seen[1][1]) == 1
    assert having(fleet, "v2") == {each.identity for each in fleet.instances}


def test_promote_without_steps_takes_a_share_to_everyone(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    kill_when(clock, lambda _: bool(having(fleet, "v2")))
    with pytest.raises(Killed):
        canary(bucket, clock, 1)
    before = clock.now()
    canary(bucket, clock, bake=0.0)
    assert clock.now() - before < 20
    assert stored(bucket).rollout is None


def test_beside_a_rollout_another_release_is_refused(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock
) -> None:
    kill_when(clock, lambda _: bool(having(fleet, "v2")))
    with pytest.raises(Killed):
        canary(bucket, clock, 1)
    with pytest.raises(PointerConflict, match="v3 was not promoted: v2 is being rolled out since 2027-"):
        canary(bucket, clock, 1, version="v3")


def test_a_first_release_has_nothing_to_be_compared_with_and_goes_to_everyone(
    bucket: MemoryBucket, clock: VirtualClock
) -> None:
    place_release(bucket, "v2")
    assert canary(bucket, clock, 10).pointer.rollout is None
    assert clock.now() == NOON


@pytest.mark.parametrize("when", ["activating", "baking"])
def test_a_freeze_stops_a_rollout_where_it_is(
    fleet: FakeFleet, bucket: MemoryBucket, clock: VirtualClock, when: str
) -> None:
    def freeze_it(now: float) -> None:
        if stored(bucket).rollout and (when == "activating" or having(fleet, "v2")):
            clock.passing.remove(freeze_it)
            freeze(promoter(bucket, clock, by="carol", reason="stocktaking"))

    clock.passing.append(freeze_it)
    with pytest.raises(PointerConflict, match="promotions are frozen by carol: stocktaking"):
        canary(bucket, clock, 1)
    assert stored(bucket).rollout is not None
    assert having(fleet, "v2") < {each.identity for each in fleet.instances}
    unfreeze(promoter(bucket, clock))
    canary(bucket, clock, 1)
    assert stored(bucket).rollout is None
