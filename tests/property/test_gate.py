"""The gate against all fleets: what passes, what blocks, what ends it, and how long it may take."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from s3sync_agent import gate
from s3sync_agent.gate import Gate, Standing
from s3sync_agent.heartbeat import STOPPED, Denied, Failed, Heartbeat, Staged
from s3sync_agent.pointer import Rollout, format_time, parse_time
from s3sync_agent.sightings import (
    LONGEST_AHEAD,
    LONGEST_HURRIED,
    Fleet,
    Sighting,
    Unreadable,
    activation_instant,
    hurried_instant,
)
from tests.releases import NOON, SITE, pointer_after, reference

REF = reference("B", promotion=7)
POINTER = msgspec.structs.replace(pointer_after("A", "B"), active=REF)
SEQUENCE = 100

_STAGED = Staged(version="B", manifest_sha256=REF.manifest_sha256, promotion_id=REF.promotion_id)
_times = st.sampled_from(
    [
        "",
        "soon",
        "2027-13-40T00:00:00Z",
        "9999-12-31T23:59:59Z",
        *(format_time(NOON + n) for n in (-9, 0.5, 4, 70)),
    ]
)


T = TypeVar("T")
_DENIED = Denied(promotion_id=REF.promotion_id, reason="500")
_DENIED_OTHER = Denied(promotion_id="promotion-other", reason="500")
_FAILED = Failed(promotion_id=REF.promotion_id, release="B", error="DiskFull", message="full")


def mostly(usual: T, *others: T) -> st.SearchStrategy[T]:
    return st.sampled_from([usual, usual, usual, usual, *others])


# Mostly one that is ready in both phases: what passes is to be met often enough.
beats = st.builds(
    Heartbeat,
    site=st.just(SITE.url),
    identity=st.just(""),
    instance_id=st.sampled_from(["", "its identity"]),
    version=st.just("0.2.0"),
    state=mostly("steady", "staging", STOPPED),
    canary=mostly(False, True),
    serving=mostly(REF.id, "", "A-000000000000"),
    promotion_id=mostly(REF.promotion_id, "promotion-other"),
    good=mostly(True, False),
    sequence=mostly(SEQUENCE, 0, SEQUENCE - 1, SEQUENCE + 5),
    staged=mostly((_STAGED,), ()),
    denied=mostly((), (_DENIED,), (_DENIED_OTHER,)),
    failed=mostly((), (_FAILED,)),
    clock_offset=mostly(0.0, -5.0, 9e9),
    activated_at=_times,
    next_poll_at=_times,
    poll_interval=mostly(5.0, 0.2, 3600.0, 1e9),
    heartbeat_interval=mostly(60.0, 0.0, 1e9),
    stage_seconds=mostly(1.5, 0.0, 1e9),
)


def _fleet(found: list[tuple[Heartbeat, float]], unreadable: bool) -> Fleet:
    sightings = []
    for number, (beat, age) in enumerate(found):
        identity = f"i-{number}"
        named = msgspec.structs.replace(
            beat, identity=identity, instance_id=identity if beat.instance_id else ""
        )
        sightings.append(Sighting(named, NOON - age))
    faulty = (Unreadable("i-x", "it is not JSON", NOON),) if unreadable else ()
    return Fleet(tuple(sightings), faulty, NOON)


fleets = st.builds(
    _fleet,
    st.lists(st.tuples(beats, mostly(0.0, 100.0, 200.0, 5e9)), max_size=4),
    mostly(False, True),
)

gates = st.builds(
    Gate,
    ignore=st.frozensets(st.sampled_from(["i-0", "i-1", "i-x"])),
    members=st.none() | st.frozensets(st.sampled_from(["i-0", "i-1", "i-2", "i-3", "i-m"])),
    expect=st.integers(0, 4),
)


@given(fleets, gates)
def test_phase_one_passes_only_when_everybody_who_serves_has_it(fleet: Fleet, who: Gate) -> None:
    verdict = gate.staged(fleet, who, REF, sequence=SEQUENCE)
    if not verdict.passed:
        return
    for sighting in fleet.sightings:
        beat = sighting.beat
        if beat.serving and not who.ignores(beat) and not who.is_gone(beat):
            assert beat.sequence >= SEQUENCE
            assert beat.has_staged(REF.manifest_sha256, REF.promotion_id)
            assert not beat.clock_offset
            assert beat.state != STOPPED
            assert not fleet.silent(sighting)
            assert not beat.denied or beat.denied[0].promotion_id != REF.promotion_id


@given(fleets, gates)
def test_whatever_passes_has_as_many_as_were_expected(fleet: Fleet, who: Gate) -> None:
    verdict = gate.staged(fleet, who, REF, sequence=SEQUENCE)
    if verdict.passed:
        assert len(verdict.ready) >= who.expect


@given(fleets, gates)
def test_every_instance_has_exactly_one_place(fleet: Fleet, who: Gate) -> None:
    for verdict in (
        gate.staged(fleet, who, REF, sequence=SEQUENCE),
        gate.serving(fleet, who, POINTER),
        gate.serving(fleet, who, POINTER, asked=gate.waited_for(fleet, who)),
    ):
        names = [place.identity for place in verdict.places]
        assert len(names) == len(set(names))
        assert {each.beat.identity for each in fleet.sightings} <= set(names)
        assert all(place.why.isprintable() and place.name.isprintable() for place in verdict.places)


@given(fleets, gates)
def test_a_denial_ends_it_whoever_is_not_ignored_says_so(fleet: Fleet, who: Gate) -> None:
    denying = {
        each.beat.identity
        for each in fleet.sightings
        if not who.ignores(each.beat) and any(d.promotion_id == REF.promotion_id for d in each.beat.denied)
    }
    for verdict in (
        gate.staged(fleet, who, REF, sequence=SEQUENCE),
        gate.serving(fleet, who, POINTER, asked=frozenset()),
    ):
        assert {p.identity for p in verdict.ended_by if p.standing is Standing.DENIED} == denying


@given(fleets, gates)
def test_who_is_not_waited_for_holds_nothing_up(fleet: Fleet, who: Gate) -> None:
    waited = gate.waited_for(fleet, who)
    verdict = gate.staged(fleet, who, REF, sequence=SEQUENCE)
    known = {each.beat.identity for each in fleet.sightings}
    assert {place.identity for place in verdict.held_up_by} & known <= waited


@given(fleets, gates)
def test_phase_two_passes_only_when_all_who_were_asked_serve_it_well(fleet: Fleet, who: Gate) -> None:
    asked = gate.waited_for(fleet, who)
    verdict = gate.serving(fleet, who, POINTER, asked=asked)
    if not verdict.passed:
        return
    for sighting in fleet.sightings:
        beat = sighting.beat
        if beat.identity in asked:
            assert (beat.serving, beat.promotion_id, beat.good) == (REF.id, REF.promotion_id, True)


@given(fleets)
def test_no_instance_can_put_the_instant_off_for_long(fleet: Fleet) -> None:
    for instant, longest in (
        (activation_instant(fleet), LONGEST_AHEAD),
        (hurried_instant(fleet), LONGEST_HURRIED),
    ):
        assert instant is None or fleet.now < instant <= fleet.now + longest


@given(fleets)
def test_everybody_polls_twice_before_the_instant(fleet: Fleet) -> None:
    instant = activation_instant(fleet)
    if instant is None or instant == fleet.now + LONGEST_AHEAD:
        return
    for sighting in fleet.fresh():
        assert fleet.now + 2 * sighting.beat.poll_interval <= instant


@given(fleets, gates, st.integers(1, 99))
def test_a_share_always_means_somebody_who_is_heard_of(fleet: Fleet, who: Gate, percent: int) -> None:
    raised = gate.share_with_somebody(fleet, who, percent, REF.promotion_id)
    candidates = [each for each in fleet.fresh() if each.beat.identity in gate.waited_for(fleet, who)]
    if raised is None:
        assert not candidates
        return
    assert percent <= raised <= 100
    pointer = msgspec.structs.replace(POINTER, rollout=Rollout(raised))
    assert any(gate.takes(pointer, each.beat) for each in candidates)
    if raised > percent:  # and no more than needed
        fewer = msgspec.structs.replace(POINTER, rollout=Rollout(raised - 1))
        assert not any(gate.takes(fewer, each.beat) for each in candidates)


@given(fleets, gates)
def test_figures_never_fail_whatever_the_instances_claim(fleet: Fleet, who: Gate) -> None:
    found = gate.figures(gate.serving(fleet, who, POINTER), POINTER.active)
    assert found.stage_p50 <= found.stage_max
    assert found.skew is None or found.skew >= 0


@given(st.lists(st.floats(NOON, NOON + 50), min_size=2, max_size=6))
def test_the_skew_is_between_the_first_and_the_last_who_joined_at_this_instant(moments: list[float]) -> None:
    ref = msgspec.structs.replace(REF, activate_at=format_time(NOON))
    joined = [
        Heartbeat(
            site=SITE.url,
            identity=f"i-{n}",
            version="1",
            state="steady",
            serving=REF.id,
            promotion_id=REF.promotion_id,
            good=True,
            activated_at=format_time(moment),
        )
        for n, moment in enumerate([NOON - 300, *moments])  # the first had it as a canary
    ]
    fleet = Fleet(tuple(Sighting(beat, NOON) for beat in joined), (), NOON + 60)
    verdict = gate.serving(fleet, Gate(), msgspec.structs.replace(POINTER, active=ref))
    skew = gate.figures(verdict, ref).skew
    times = [parse_time(beat.activated_at) for beat in joined[1:]]
    assert skew == max(times) - min(times)
