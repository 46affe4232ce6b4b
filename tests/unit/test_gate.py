"""One instance at a time: the standing that each of its words gives it. All fleets are in tests/property."""

from __future__ import annotations

import msgspec
import pytest

from s3sync_agent import gate
from s3sync_agent.gate import Gate, Place, Standing, Verdict
from s3sync_agent.heartbeat import STOPPED, Denied, Failed, Heartbeat, Staged
from s3sync_agent.pointer import Rollout
from s3sync_agent.rollout import share_of
from s3sync_agent.sightings import Fleet, Sighting
from tests.releases import NOON, SITE, pointer_after, reference

REF = reference("B", promotion=7)
POINTER = msgspec.structs.replace(pointer_after("A", "B"), active=REF)
SEQUENCE = 100
READY = Heartbeat(
    site=SITE.url,
    identity="ROLE:i-1",
    instance_id="i-1",
    version="1.0",
    state="steady",
    serving=REF.id,
    promotion_id=REF.promotion_id,
    good=True,
    sequence=SEQUENCE,
    staged=(Staged(version="B", manifest_sha256=REF.manifest_sha256, promotion_id=REF.promotion_id),),
)
DENIES = {"denied": (Denied(promotion_id=REF.promotion_id, reason="500"),)}
FAILS = {"failed": (Failed(promotion_id=REF.promotion_id, release="B", error="DiskFull", message="full"),)}
OTHER = "promotion-other"


def fleet(beat: Heartbeat, *, age: float = 0.0) -> Fleet:
    return Fleet((Sighting(beat, NOON - age),), (), NOON)


def but(**fields: object) -> Heartbeat:
    return msgspec.structs.replace(READY, **fields)


def only(verdict: Verdict) -> Place:
    (place,) = verdict.places
    return place


STAGED_FOR_ANOTHER = Staged(version="B", manifest_sha256=REF.manifest_sha256, promotion_id=OTHER)
PHASE_ONE = [
    ({}, 0, Standing.READY, "staged"),
    ({"sequence": SEQUENCE + 5}, 0, Standing.READY, "staged"),
    ({"sequence": SEQUENCE - 1}, 0, Standing.WORKING, "has not read the pointer yet"),
    ({"staged": ()}, 0, Standing.WORKING, "steady"),
    ({"staged": (), "because": "downloading"}, 0, Standing.WORKING, "downloading"),
    ({"staged": (STAGED_FOR_ANOTHER,)}, 0, Standing.WORKING, "steady"),
    ({"clock_offset": 3.0}, 0, Standing.CLOCK_OFF, "has a clock 3 s ahead of S3's"),
    ({"clock_offset": -3.0}, 0, Standing.CLOCK_OFF, "has a clock 3 s behind S3's"),
    ({}, 181, Standing.SILENT, "was not heard of for 181 s"),
    ({"heartbeat_interval": 10.0}, 31, Standing.SILENT, "was not heard of for 31 s"),
    ({"state": STOPPED}, 9999, Standing.STOPPED, "has a stopped agent; nginx there goes on with what it has"),
    (FAILS, 0, Standing.FAILED, "DiskFull: full"),
    (FAILS | {"serving": ""}, 0, Standing.NEWCOMER, "serves nothing yet"),
    ({"serving": "", "staged": ()}, 0, Standing.NEWCOMER, "serves nothing yet"),
    (DENIES, 0, Standing.DENIED, "500"),
    (DENIES | {"serving": ""}, 0, Standing.DENIED, "500"),
    (DENIES, 9999, Standing.DENIED, "500"),
    ({"denied": (Denied(promotion_id=OTHER, reason="500"),)}, 0, Standing.READY, "staged"),
]


@pytest.mark.parametrize(("fields", "age", "standing", "why"), PHASE_ONE)
def test_in_the_first_phase(fields: dict[str, object], age: float, standing: Standing, why: str) -> None:
    place = only(gate.staged(fleet(but(**fields), age=age), Gate(), REF, sequence=SEQUENCE))
    assert (place.standing, place.why) == (standing, why)


PHASE_TWO = [
    ({}, 0, Standing.READY, "serves it"),
    ({"clock_offset": 3.0}, 0, Standing.READY, "serves it"),
    ({}, 9999, Standing.READY, "serves it"),  # its last word
    ({"good": False}, 0, Standing.WORKING, "serves it, not probed yet"),
    ({"promotion_id": OTHER}, 0, Standing.WORKING, f"serves {REF.id}"),
    ({"serving": "A-000000000000", "because": "why"}, 0, Standing.WORKING, "serves A-000000000000 (why)"),
    ({"serving": "A-000000000000"}, 181, Standing.SILENT, "was not heard of for 181 s"),
    ({"good": False, "state": STOPPED}, 0, Standing.STOPPED, PHASE_ONE[10][3]),
    (FAILS, 0, Standing.FAILED, "DiskFull: full"),
    (DENIES, 0, Standing.DENIED, "500"),
    ({"serving": ""}, 0, Standing.NEWCOMER, "serves nothing yet"),
]


@pytest.mark.parametrize(("fields", "age", "standing", "why"), PHASE_TWO)
def test_in_the_second_phase(fields: dict[str, object], age: float, standing: Standing, why: str) -> None:
    verdict = gate.serving(fleet(but(**fields), age=age), Gate(), POINTER, asked=frozenset({"ROLE:i-1"}))
    assert (only(verdict).standing, only(verdict).why) == (standing, why)


@pytest.mark.parametrize(
    ("fields", "standing"),
    [({"good": False}, Standing.NEWCOMER), (FAILS, Standing.NEWCOMER), (DENIES, Standing.DENIED)],
)
def test_who_was_not_asked_came_later_and_counts_only_when_it_denies(
    fields: dict[str, object], standing: Standing
) -> None:
    verdict = gate.serving(fleet(but(**fields)), Gate(), POINTER, asked=frozenset())
    assert only(verdict).standing is standing


@pytest.mark.parametrize(
    ("fields", "age", "standing"),
    [
        ({}, 0, Standing.READY),
        ({}, 181, Standing.SILENT),
        ({"state": STOPPED}, 0, Standing.STOPPED),
        ({"good": False}, 0, Standing.WORKING),
        (DENIES, 0, Standing.DENIED),
        (FAILS, 0, Standing.FAILED),
    ],
)
def test_while_it_bakes_those_who_try_it_have_to_be_heard_of(
    fields: dict[str, object], age: float, standing: Standing
) -> None:
    pointer = msgspec.structs.replace(POINTER, rollout=Rollout(99))
    assert share_of(READY.identity, REF.promotion_id) < 99
    assert only(gate.baking(fleet(but(**fields), age=age), Gate(), pointer)).standing is standing


def test_whom_the_rollout_does_not_mean_stands_outside() -> None:
    pointer = msgspec.structs.replace(POINTER, rollout=Rollout(1))
    assert share_of(READY.identity, REF.promotion_id) > 1
    for verdict in (
        gate.serving(fleet(but(serving="A-000000000000")), Gate(), pointer, asked=frozenset({"ROLE:i-1"})),
        gate.baking(fleet(but(serving="A-000000000000")), Gate(), pointer),
    ):
        assert (only(verdict).standing, only(verdict).why) == (Standing.OUTSIDE, "serves A-000000000000")
    canary = fleet(but(canary=True))
    assert only(gate.baking(canary, Gate(), pointer)).standing is Standing.READY


# -------------------------------------------------------------------------- who counts


@pytest.mark.parametrize("called", ["i-1", "ROLE:i-1"])
def test_an_instance_is_ignored_by_either_of_its_names_whatever_it_says(called: str) -> None:
    who = Gate(ignore=frozenset({called}))
    assert only(gate.staged(fleet(but(**DENIES)), who, REF, sequence=SEQUENCE)).standing is Standing.IGNORED
    assert gate.waited_for(fleet(READY), who) == frozenset()


def test_who_left_the_group_is_gone_and_what_has_no_instance_id_never_was_in_one() -> None:
    who = Gate(members=frozenset())
    assert only(gate.staged(fleet(READY, age=999), who, REF, sequence=SEQUENCE)).standing is Standing.GONE
    elsewhere = fleet(but(instance_id="", identity="web1"))
    assert only(gate.staged(elsewhere, who, REF, sequence=SEQUENCE)).standing is Standing.READY


def test_a_member_without_a_heartbeat_is_waited_for_in_the_first_phase_and_came_later_in_the_second() -> None:
    who = Gate(members=frozenset({"i-1", "i-2"}))
    first = gate.staged(fleet(READY), who, REF, sequence=SEQUENCE)
    assert [(place.name, place.standing) for place in first.held_up_by] == [("i-2", Standing.MISSING)]
    assert gate.serving(fleet(READY), who, POINTER, asked=frozenset({"ROLE:i-1"})).passed
    assert not gate.serving(fleet(READY), who, POINTER).passed  # nobody was asked before


def test_a_member_that_cannot_tell_its_instance_id_is_known_by_its_identity() -> None:
    who = Gate(members=frozenset({"i-1"}))
    assert gate.staged(fleet(but(instance_id="")), who, REF, sequence=SEQUENCE).passed


def test_a_newcomer_in_the_group_is_waited_for_once_it_is_silent() -> None:
    newcomer, who = but(serving=""), Gate(members=frozenset({"i-1"}))
    assert gate.staged(fleet(newcomer), who, REF, sequence=SEQUENCE).passed
    silent = gate.staged(fleet(newcomer, age=181), who, REF, sequence=SEQUENCE)
    assert only(silent).standing is Standing.SILENT


def test_those_who_are_expected_are_heard_of_and_serve() -> None:
    who = Gate(expect=1)
    assert gate.staged(fleet(READY), who, REF, sequence=SEQUENCE).lacking == 0
    assert gate.staged(fleet(READY, age=181), who, REF, sequence=SEQUENCE).lacking == 1
    assert gate.staged(fleet(but(serving="")), who, REF, sequence=SEQUENCE).lacking == 1


def test_a_reason_cannot_move_a_cursor() -> None:
    beat = but(denied=(Denied(promotion_id=REF.promotion_id, reason="\x1b[2J"),), identity="i\n1")
    place = only(gate.staged(fleet(beat), Gate(), REF, sequence=SEQUENCE))
    assert place.clause == "i\\n1 denied it: \\x1b[2J"
