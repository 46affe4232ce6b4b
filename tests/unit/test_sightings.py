from __future__ import annotations

import msgspec

from s3sync_agent.heartbeat import STOPPED, Heartbeat
from s3sync_agent.pointer import format_time
from s3sync_agent.sightings import Fleet, Sighting, activation_instant, name_of, named
from tests.releases import NOON, SITE

BEAT = Heartbeat(site=SITE.url, identity="i-1", version="1.0", state="steady")


def fleet(*beats: Heartbeat, age: float = 0.0) -> Fleet:
    """The last one was seen so long ago."""
    ages = [0.0] * (len(beats) - 1) + [age]
    return Fleet(tuple(Sighting(beat, NOON - old) for beat, old in zip(beats, ages, strict=True)), (), NOON)


def other(**fields: object) -> Heartbeat:
    return msgspec.structs.replace(BEAT, identity="i-2", **fields)


def test_one_instance_has_nobody_to_agree_with() -> None:
    assert activation_instant(fleet(BEAT)) is None
    assert activation_instant(fleet(BEAT, other(state=STOPPED))) is None


def test_a_silent_one_may_serve_and_poll_all_the_same() -> None:
    assert activation_instant(fleet(BEAT, other(), age=500.0)) == NOON + 10


def test_the_instant_is_two_polls_ahead_and_not_before_a_poll_that_was_announced() -> None:
    assert activation_instant(fleet(BEAT, other(poll_interval=20.0))) == NOON + 40
    late = format_time(NOON + 55)
    assert activation_instant(fleet(BEAT, other(next_poll_at=late))) == NOON + 55


def test_who_polls_often_hears_of_the_instant_though_s3_tells_whole_seconds() -> None:
    often = msgspec.structs.replace(BEAT, poll_interval=0.2)
    ahead = (activation_instant(fleet(often, other(poll_interval=0.2))) or 0.0) - NOON
    assert ahead - 1.0 > 2 * 0.2


def test_on_ec2_an_instance_is_called_by_its_instance_id() -> None:
    on_ec2 = other(instance_id="i-0abc")
    assert name_of(msgspec.structs.replace(on_ec2, identity="ROLE:i-0abc")) == "i-0abc"
    assert name_of(msgspec.structs.replace(on_ec2, identity="web1")) == "web1"
    assert named([msgspec.structs.replace(BEAT, canary=True), on_ec2]) == ["i-1 (canary)", "i-2"]
