"""The gate: which instances a promotion waits for, which hold it up, which end it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from statistics import median

import msgspec

from s3sync_agent import rollout
from s3sync_agent.heartbeat import STOPPED, Heartbeat
from s3sync_agent.layout import escape
from s3sync_agent.pointer import Pointer, ReleaseRef, Rollout
from s3sync_agent.sightings import Fleet, Sighting, Unreadable, instance_id_in, moment, name_of


@dataclass(frozen=True, slots=True)
class Gate:
    """Who counts. `ignore` holds identities or instance ids; `members` the instance ids of the Auto Scaling
    group, None when nobody asked; `expect` how many instances there must be at least."""

    ignore: frozenset[str] = frozenset()
    members: frozenset[str] | None = None
    expect: int = 0

    def ignores(self, beat: Heartbeat) -> bool:
        return beat.identity in self.ignore or (bool(beat.instance_id) and beat.instance_id in self.ignore)

    def is_gone(self, beat: Heartbeat) -> bool:
        return self.members is not None and bool(beat.instance_id) and beat.instance_id not in self.members

    def is_member(self, beat: Heartbeat) -> bool:
        return self.members is not None and _instance_id(beat.identity, beat) in self.members


class Standing(Enum):
    """How an instance stands to a promotion."""

    READY = "ready"  # phase one: has it on its disk; phase two: serves it, probed
    WORKING = "working"
    FAILED = "failed"  # could not stage it
    DENIED = "denied"  # will not take it
    SILENT = "silent"
    STOPPED = "stopped"  # its nginx goes on with what was live
    CLOCK_OFF = "clock off"
    UNREADABLE = "unreadable"
    MISSING = "missing"  # in the group, without a heartbeat
    OUTSIDE = "outside"  # the rollout does not mean it
    NEWCOMER = "newcomer"  # obeys the pointer, nobody waits for it
    IGNORED = "ignored"
    GONE = "gone"  # its heartbeat is left, the group does not have it any more


CLOCKS = 2.0  # seconds by which an instance's clock may differ from S3's
_QUIET = {Standing.SILENT, Standing.STOPPED, Standing.UNREADABLE, Standing.MISSING}
_HOLDS_UP = _QUIET | {Standing.WORKING, Standing.CLOCK_OFF}
_WILL_SERVE = _HOLDS_UP | {Standing.READY, Standing.NEWCOMER}
_ENDS = {Standing.FAILED, Standing.DENIED}
_HEARD = {
    Standing.READY,
    Standing.WORKING,
    Standing.FAILED,
    Standing.DENIED,
    Standing.CLOCK_OFF,
    Standing.OUTSIDE,
}


@dataclass(frozen=True, slots=True)
class Place:
    """One instance's standing; `why` and `hint` are safe to print. No `beat`: nothing readable is there."""

    identity: str
    standing: Standing
    why: str = ""
    hint: str = ""
    beat: Heartbeat | None = None

    @property
    def name(self) -> str:
        """What people call it. Safe to print."""
        return name_of(self.beat) if self.beat else escape(self.identity)

    @property
    def clause(self) -> str:
        """`i-1 denied it: GET / answered 500`. Safe to print."""
        verb = {Standing.DENIED: "denied it: ", Standing.FAILED: "could not stage it: "}
        return f"{self.name} {verb.get(self.standing, '')}{self.why}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """All places at one look. `lacking`: how many instances fewer than expected."""

    places: tuple[Place, ...]
    lacking: int = 0

    @property
    def ended_by(self) -> tuple[Place, ...]:
        """Who reported that it does not go."""
        return tuple(place for place in self.places if place.standing in _ENDS)

    @property
    def held_up_by(self) -> tuple[Place, ...]:
        return tuple(place for place in self.places if place.standing in _HOLDS_UP)

    @property
    def ready(self) -> tuple[Place, ...]:
        return tuple(place for place in self.places if place.standing is Standing.READY)

    @property
    def passed(self) -> bool:
        return not (self.ended_by or self.held_up_by or self.lacking)

    @property
    def is_about_nobody(self) -> bool:
        """Whether nobody is there who has it or will get it: all are ignored, left the group, or are gone."""
        return not any(place.standing in _WILL_SERVE for place in self.places)

    @property
    def only_quiet_ones_left(self) -> bool:
        """Whether waiting is for those alone of whom nothing is heard."""
        return not self.lacking and all(place.standing in _QUIET for place in self.held_up_by)


# -------------------------------------------------------------------------- phase one


def staged(fleet: Fleet, gate: Gate, ref: ReleaseRef, *, sequence: int) -> Verdict:
    """Phase one: who has `ref` on its disk, having read the pointer `sequence` or a later one."""

    def standing(sighting: Sighting) -> Place:
        beat = sighting.beat
        if found := _denied(beat, ref) or _not_waited_for(fleet, gate, sighting) or _failed(beat, ref):
            return found
        if found := _unheard(fleet, sighting):
            return found
        if beat.clock_offset:
            side = "ahead of" if beat.clock_offset > 0 else "behind"
            why = f"has a clock {abs(beat.clock_offset):.0f} s {side} S3's"
            return _place(beat, Standing.CLOCK_OFF, why, "look at chrony on that instance")
        if beat.sequence < sequence:
            return _place(beat, Standing.WORKING, "has not read the pointer yet" + _because(beat))
        if not beat.has_staged(ref.manifest_sha256, ref.promotion_id):
            return _place(beat, Standing.WORKING, beat.state if not beat.because else escape(beat.because))
        return _place(beat, Standing.READY, "staged")

    return _verdict(fleet, gate, standing)


# -------------------------------------------------------------------------- phase two


def serving(fleet: Fleet, gate: Gate, pointer: Pointer, *, asked: frozenset[str] | None = None) -> Verdict:
    """Phase two: who serves what `pointer` makes active, and found it good.

    `asked` are the identities that are waited for. Others came later: they obey the pointer, and count only
    when they deny. None where there was nobody to ask before: then all count, once they serve anything.
    """
    ref = pointer.active

    def standing(sighting: Sighting) -> Place:
        beat = sighting.beat
        if found := _denied(beat, ref) or _not_waited_for(fleet, gate, sighting):
            return found
        if asked is not None and beat.identity not in asked:
            return _place(beat, Standing.NEWCOMER, "came later")
        if found := _failed(beat, ref):
            return found
        if not takes(pointer, beat):
            return _place(beat, Standing.OUTSIDE, f"serves {_served(beat)}")
        served = _serves(beat, ref)
        return served if served.standing is Standing.READY else _unheard(fleet, sighting) or served

    # Members without a heartbeat came later too.
    return _verdict(fleet, gate, standing, missing=asked is None, only_ready_count=pointer.rollout is None)


def takes(pointer: Pointer, beat: Heartbeat) -> bool:
    """Whether the pointer means its active release for this instance."""
    return rollout.takes_active(pointer, identity=beat.identity, canary=beat.canary)


def baking(fleet: Fleet, gate: Gate, pointer: Pointer) -> Verdict:
    """While a share of the instances tries it: READY are those that serve it, found it good and are heard of.
    Others that it is meant for are on their way, or quiet; the rest stands outside."""

    def standing(sighting: Sighting) -> Place:
        beat = sighting.beat
        if found := _denied(beat, pointer.active) or _not_waited_for(fleet, gate, sighting):
            return found
        if found := _failed(beat, pointer.active):
            return found
        if not takes(pointer, beat):
            return _place(beat, Standing.OUTSIDE, f"serves {_served(beat)}")
        return _unheard(fleet, sighting) or _serves(beat, pointer.active)

    return _verdict(fleet, gate, standing, missing=False)


def heard_since(verdict: Verdict, since: float) -> bool:
    """Whether all that serve it wrote `since` then (unix seconds), by their own clocks, which may be off
    by as much as a promotion allows."""
    written = [moment(place.beat.written_at) for place in verdict.ready if place.beat is not None]
    return all(at is not None and at >= since - CLOCKS for at in written)


def longest_silence(verdict: Verdict) -> float:
    """Seconds after which every one that serves it has written again, or is silent."""
    return max((place.beat.silent_after() for place in verdict.ready if place.beat is not None), default=0.0)


def _serves(beat: Heartbeat, ref: ReleaseRef) -> Place:
    if beat.promotion_id != ref.promotion_id or beat.serving != ref.id:
        return _place(beat, Standing.WORKING, f"serves {_served(beat)}" + _because(beat))
    if not beat.good:
        return _place(beat, Standing.WORKING, "serves it, not probed yet" + _because(beat))
    return _place(beat, Standing.READY, "serves it")


# ---------------------------------------------------------------------- who and when


def denied_by_anyone(fleet: Fleet, promotion_id: str) -> bool:
    return any(
        denied.promotion_id == promotion_id for sighting in fleet.sightings for denied in sighting.beat.denied
    )


def refused(fleet: Fleet, ref: ReleaseRef) -> bool:
    """Whether an instance denies this promotion, or says that it cannot stage it."""
    return any(_denied(sighting.beat, ref) or _failed(sighting.beat, ref) for sighting in fleet.sightings)


def waited_for(fleet: Fleet, gate: Gate) -> frozenset[str]:
    """The identities in the gate."""
    return frozenset(
        sighting.beat.identity for sighting in fleet.sightings if not _not_waited_for(fleet, gate, sighting)
    )


def share_with_somebody(fleet: Fleet, gate: Gate, percent: int, promotion_id: str) -> int | None:
    """`percent`, raised so far that at least one instance that is heard of takes the promotion; None when
    there is none at all."""
    candidates = [sighting.beat for sighting in fleet.fresh() if not _not_waited_for(fleet, gate, sighting)]
    if not candidates:
        return None
    if any(beat.canary for beat in candidates):
        return percent
    lowest = min(rollout.share_of(beat.identity, promotion_id) for beat in candidates)
    return max(percent, math.floor(lowest) + 1)


def takers(fleet: Fleet, pointer: Pointer, percent: int, promotion_id: str) -> tuple[Heartbeat, ...]:
    """Whom this share means."""
    ref = msgspec.structs.replace(pointer.active, promotion_id=promotion_id)
    shared = msgspec.structs.replace(pointer, active=ref, rollout=Rollout(percent))
    return tuple(sighting.beat for sighting in fleet.sightings if takes(shared, sighting.beat))


# ---------------------------------------------------------------------------- figures


@dataclass(frozen=True, slots=True)
class Figures:
    """Of those that serve a promotion; seconds. `skew` is between the first and the last swap, None when
    it is not known of two."""

    instances: int
    stage_p50: float
    stage_max: float
    skew: float | None


def figures(verdict: Verdict, ref: ReleaseRef) -> Figures:
    """Who swapped before the promotion's instant joined an earlier step of its rollout, and has no part in
    the skew."""
    beats = [place.beat for place in verdict.ready if place.beat is not None]
    began = moment(ref.activate_at or "") or -math.inf
    moments = [moment(beat.activated_at) for beat in beats]
    swaps = [at for at in moments if at is not None and at >= began]
    stages = [beat.stage_seconds for beat in beats] or [0.0]
    skew = max(swaps) - min(swaps) if len(swaps) > 1 else None
    return Figures(len(beats), median(stages), max(stages), skew)


# ---------------------------------------------------------------------------- private


def _verdict(
    fleet: Fleet,
    gate: Gate,
    standing: Callable[[Sighting], Place],
    *,
    missing: bool = True,
    only_ready_count: bool = False,
) -> Verdict:
    places = [
        _place(sighting.beat, Standing.IGNORED) if gate.ignores(sighting.beat) else standing(sighting)
        for sighting in fleet.sightings
    ]
    places += [_unreadable(item, gate) for item in fleet.unreadable]
    if missing:
        places += _members_without_heartbeat(fleet, gate)
    counted = {Standing.READY} if only_ready_count else _HEARD
    present = sum(place.standing in counted for place in places)
    return Verdict(tuple(places), max(0, gate.expect - present))


def _members_without_heartbeat(fleet: Fleet, gate: Gate) -> list[Place]:
    known = {_instance_id(sighting.beat.identity, sighting.beat) for sighting in fleet.sightings}
    known |= {_instance_id(item.identity) for item in fleet.unreadable}
    return [
        Place(member, Standing.MISSING, "is in the group and has no heartbeat")
        for member in sorted((gate.members or frozenset()) - known - gate.ignore)
    ]


def _instance_id(identity: str, beat: Heartbeat | None = None) -> str:
    """As the heartbeat tells, else as the identity on EC2 ends: `<role id>:<instance id>`."""
    return (beat.instance_id if beat else "") or identity.rpartition(":")[2]


def _place(beat: Heartbeat, standing: Standing, why: str = "", hint: str = "") -> Place:
    return Place(beat.identity, standing, why, hint, beat)


def _unreadable(item: Unreadable, gate: Gate) -> Place:
    instance_id = instance_id_in(item.identity)
    if {item.identity, instance_id or item.identity} & gate.ignore:
        return Place(item.identity, Standing.IGNORED)
    if gate.members is not None and instance_id and instance_id not in gate.members:
        return Place(item.identity, Standing.GONE, "is not in the group any more")
    return Place(item.identity, Standing.UNREADABLE, f"has a heartbeat that cannot be read: {item.fault}")


def _denied(beat: Heartbeat, ref: ReleaseRef) -> Place | None:
    for denied in beat.denied:
        if denied.promotion_id == ref.promotion_id:
            return _place(beat, Standing.DENIED, escape(denied.reason))
    return None


def _failed(beat: Heartbeat, ref: ReleaseRef) -> Place | None:
    for failed in beat.failed:
        if failed.promotion_id == ref.promotion_id:
            why = f"{escape(failed.error)}: {escape(failed.message)}"
            return _place(beat, Standing.FAILED, why, escape(failed.hint))
    return None


def _not_waited_for(fleet: Fleet, gate: Gate, sighting: Sighting) -> Place | None:
    beat = sighting.beat
    if gate.ignores(beat):
        return _place(beat, Standing.IGNORED)
    if gate.is_gone(beat):
        return _place(beat, Standing.GONE, "is not in the group any more")
    if not beat.serving and not (gate.is_member(beat) and _unheard(fleet, sighting)):
        return _place(beat, Standing.NEWCOMER, "serves nothing yet")
    return None


def _unheard(fleet: Fleet, sighting: Sighting) -> Place | None:
    beat = sighting.beat
    if beat.state == STOPPED:
        return _place(beat, Standing.STOPPED, "has a stopped agent; nginx there goes on with what it has")
    if fleet.silent(sighting):
        since = fleet.now - sighting.written_at
        return _place(beat, Standing.SILENT, f"was not heard of for {since:.0f} s")
    return None


def _served(beat: Heartbeat) -> str:
    return escape(beat.serving) or "nothing"


def _because(beat: Heartbeat) -> str:
    return f" ({escape(beat.because)})" if beat.because else ""
