"""The fleet as it is seen through its heartbeats: who is heard of, and when all will have heard. Pure.

What an instance says about itself is believed, within bounds: nothing that one of them writes delays the
others for longer than LONGEST_AHEAD.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from s3sync_agent.errors import PointerInvalid
from s3sync_agent.heartbeat import MISSED, STOPPED, Heartbeat
from s3sync_agent.layout import escape
from s3sync_agent.pointer import parse_time

POLL_INTERVAL = 5.0  # seconds; of instances whose heartbeat cannot be read, as is the next
HEARTBEAT_INTERVAL = 60.0
LONGEST_AHEAD = 600.0  # seconds, as is the next
LONGEST_HURRIED = 60.0
# Seconds beyond a poll, for those who poll often: S3 may be one further than the whole seconds that it tells,
# and an answer takes a moment.
SPARE = 1.5


@dataclass(frozen=True, slots=True)
class Sighting:
    """A heartbeat, and when it was written (unix seconds by S3's clock)."""

    beat: Heartbeat
    written_at: float


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What lies in a heartbeat's place and is none."""

    identity: str
    fault: str
    written_at: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """One look at all heartbeats, sorted by identity; `now` is unix seconds by S3's clock."""

    sightings: tuple[Sighting, ...]
    unreadable: tuple[Unreadable, ...]
    now: float

    def silent(self, seen: Sighting | Unreadable) -> bool:
        """Whether it missed so many heartbeats that nobody knows how it is. One that was stopped is not
        expected to write."""
        if isinstance(seen, Unreadable):
            return self.now - seen.written_at > MISSED * HEARTBEAT_INTERVAL
        return seen.beat.state != STOPPED and self.now - seen.written_at > seen.beat.silent_after()

    def fresh(self) -> list[Sighting]:
        """Those that write."""
        return [
            sighting
            for sighting in self.sightings
            if sighting.beat.state != STOPPED and not self.silent(sighting)
        ]

    def names(self) -> frozenset[str]:
        """All that an instance may be called by."""
        beats = [sighting.beat for sighting in self.sightings]
        identities = [beat.identity for beat in beats] + [item.identity for item in self.unreadable]
        instance_ids = [beat.instance_id for beat in beats]
        instance_ids += [instance_id_in(item.identity) for item in self.unreadable]
        return frozenset(identities + instance_ids)

    def __bool__(self) -> bool:
        return bool(self.sightings or self.unreadable)


def instance_id_in(identity: str) -> str:
    """The end of an identity on EC2, `<role id>:<instance id>`; "" of others."""
    _, colon, end = identity.rpartition(":")
    return end if colon and end.startswith("i-") else ""


def name_of(beat: Heartbeat) -> str:
    """The instance id where the identity ends in it, else that. Safe to print."""
    ends_in_it = beat.instance_id and beat.identity.endswith(beat.instance_id)
    return escape(beat.instance_id if ends_in_it else beat.identity)


def named(beats: Iterable[Heartbeat]) -> list[str]:
    """The names, with a mark on those that were made canaries by configuration."""
    return [f"{name_of(beat)} (canary)" if beat.canary else name_of(beat) for beat in beats]


# ---------------------------------------------------------------------------- instants


def activation_instant(fleet: Fleet) -> float | None:
    """An instant that everybody hears of before it comes, in unix seconds by S3's clock: two polls ahead, or
    one and SPARE, and not before the latest poll that was announced. None, at once, when there is nobody to
    agree with."""
    ahead = _two_polls(fleet)
    if ahead is None:
        return None
    announced = [moment(sighting.beat.next_poll_at) for sighting in fleet.fresh()]
    polls = [at - fleet.now for at in announced if at is not None]
    return fleet.now + min(LONGEST_AHEAD, max([ahead, ahead / 2 + SPARE, *polls]))


def hurried_instant(fleet: Fleet) -> float | None:
    """The same for who has no time: two polls ahead, whoever is late then goes when it hears of it."""
    ahead = _two_polls(fleet)
    return None if ahead is None else fleet.now + min(LONGEST_HURRIED, ahead)


def unseen_instant(now: float) -> float:
    """The same when nobody can say who is there."""
    return now + 2 * POLL_INTERVAL


def _two_polls(fleet: Fleet) -> float | None:
    # A silent one may have lost its rights to write, and serve and poll all the same.
    known = [sighting.beat for sighting in fleet.sightings if sighting.beat.state != STOPPED]
    unknown = [item for item in fleet.unreadable if not fleet.silent(item)]
    if len(known) + len(unknown) < 2:
        return None
    intervals = [sighting.beat.poll_interval for sighting in fleet.fresh()]
    return 2 * max([*intervals, *([POLL_INTERVAL] if unknown or not intervals else [])])


def moment(text: str) -> float | None:
    """A time that an instance wrote; None when it is none."""
    try:
        return parse_time(text)
    except PointerInvalid:
        return None
