"""When a heartbeat is written, what failures do, and what is left behind: turn by turn, and as a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from s3sync_agent.errors import StoreDenied, StoreUnavailable
from s3sync_agent.heartbeat import Heartbeat, parse_heartbeat
from s3sync_agent.heartbeats import sender as sender_module
from s3sync_agent.heartbeats.sender import Farewell, Heartbeats, Sender
from s3sync_agent.layout import Site
from s3sync_agent.pointer import format_time
from s3sync_agent.report import Status, checked
from s3sync_agent.settings import Settings, load
from tests.agents import FakeClock
from tests.fakes import MemoryBucket
from tests.releases import NOON, SITE
from tests.statuses import STATUS

KEY = SITE.heartbeat("i-1")
WAIT = 10.0
NO_S3 = StoreUnavailable("no network", hint="wait")
DENIED = StoreDenied("s3:PutObject", hint="look at the role")


class Machine:
    """What EC2 says, and how often it was asked."""

    def __init__(self) -> None:
        self.where: tuple[str, str] | None = None
        self.terminating = False
        self.asked = 0

    def whereabouts(self) -> tuple[str, str] | None:
        self.asked += 1
        return self.where

    def is_terminating(self) -> bool:
        self.asked += 1
        return self.terminating


class Scene:
    """The world of a sender, in the test's hands. `news` is told of every event and of every request."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.bucket = MemoryBucket(clock=self.clock.now)
        self.machine = Machine()
        self.status = STATUS
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.threads: list[Sender] = []

    def settings(self, **overrides: Any) -> Settings:
        return load(config=None, environ={}, overrides={"site": SITE.url, "identity": "i-1"} | overrides)

    def event(self, name: str, **fields: object) -> None:
        self.events.append((name, checked(name, fields)))

    def read(self) -> Status:
        return self.status

    def change(self, **changes: Any) -> None:
        self.status = msgspec.structs.replace(self.status, **changes)

    def sender(self, **settings: Any) -> Sender:
        return Sender(
            self.settings(**settings),
            self.bucket,
            read=self.read,
            event=self.event,
            metadata=self.machine,
            clock=self.clock,
            chance=lambda: 0.0,
        )

    def heartbeats(self) -> Heartbeats:
        return Heartbeats(event=self.event, metadata=self.machine, clock=self.clock, chance=lambda: 0.0)

    def written(self, key: str = KEY) -> Heartbeat:
        identity = key.rpartition("/")[2].removesuffix(".json")
        return parse_heartbeat(self.bucket.objects[key].body, identity=identity)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def pass_time(scene: Scene, sender: Sender, seconds: float) -> int:
    """Turns as the thread would make them without news; how many heartbeats were written."""
    before = scene.bucket.count("put")
    until = scene.clock.monotonic() + seconds
    while (wait := sender.turn()) <= until - scene.clock.monotonic():
        scene.clock.advance(max(wait, 0.001))
    scene.clock.advance(until - scene.clock.monotonic())
    return scene.bucket.count("put") - before


# -------------------------------------------------------------------------- when it is written


def test_the_first_is_written_at_once(scene: Scene) -> None:
    assert scene.sender().turn() == 60
    assert scene.bucket.requests == [("put", KEY)]
    assert scene.bucket.objects[KEY].content_type == "application/json"
    assert scene.written().written_at == format_time(NOON)


def test_an_idle_agent_writes_once_an_interval(scene: Scene) -> None:
    sender = scene.sender()
    sender.turn()
    assert pass_time(scene, sender, 3600) == 60


def test_polls_that_bring_nothing_write_nothing(scene: Scene) -> None:
    sender = scene.sender()
    sender.turn()
    for second in range(11):
        scene.clock.advance(5)
        scene.change(polled_at=f"2026-11-22T12:00:{second:02}.000Z", next_poll_at="x", behind_seconds=second)
        sender.turn()
    assert scene.bucket.count("put") == 1


def test_a_change_is_written_once_and_puts_the_next_off(scene: Scene) -> None:
    sender = scene.sender()
    sender.turn()
    scene.clock.advance(30)
    scene.change(state="staged")
    assert sender.turn() == 60
    assert sender.turn() == 60
    assert scene.bucket.count("put") == 2
    assert scene.written().state == "staged"


def test_intervals_are_shortened_by_chance_so_that_a_fleet_does_not_write_in_step(scene: Scene) -> None:
    sender = scene.sender()
    sender._chance = lambda: 0.5
    assert sender.turn() == pytest.approx(57)


# ---------------------------------------------------------------------------------- failures


def test_a_failure_is_told_once_tried_again_later_and_later_and_its_end_is_told(scene: Scene) -> None:
    sender = scene.sender()
    scene.bucket.outage = NO_S3
    waits = []
    for _ in range(9):
        waits.append(sender.turn())
        scene.clock.advance(waits[-1])
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    scene.bucket.outage = None
    assert sender.turn() == 60
    assert scene.events == [
        ("heartbeat.failed", {"error": "StoreUnavailable", "message": "no network", "hint": "wait"}),
        ("heartbeat.recovered", {"seconds": 121.5}),
    ]


def test_it_is_not_asked_more_often_than_the_interval_even_then(scene: Scene) -> None:
    sender = scene.sender(heartbeat_interval=5)
    scene.bucket.outage = NO_S3
    assert [sender.turn() for _ in range(6)] == [0.5, 1, 2, 2.5, 2.5, 2.5]


def test_news_is_reason_enough_to_try_again(scene: Scene) -> None:
    sender = scene.sender()
    scene.bucket.fail_next("put", NO_S3, times=8)
    for _ in range(8):
        sender.turn()
    scene.change(state="staged")
    sender.turn()
    assert scene.written().state == "staged"


def test_a_heartbeat_whose_answer_was_lost_is_written_again(scene: Scene) -> None:
    sender = scene.sender()
    scene.bucket.lose_answer("put", NO_S3)
    sender.turn()
    sender.turn()
    assert scene.bucket.count("put") == 2


def test_nor_is_it_known_what_that_one_said(scene: Scene) -> None:
    sender = scene.sender()
    sender.turn()
    scene.change(state="staging")
    scene.bucket.lose_answer("put", NO_S3)
    sender.turn()
    scene.change(state="steady")
    sender.turn()
    assert scene.written().state == "steady"


def test_a_status_that_cannot_be_read_is_a_failure_like_others(scene: Scene) -> None:
    sender = scene.sender()

    def unreadable() -> Status:
        raise OSError("no such directory")

    sender._read = unreadable
    assert sender.turn() == 0.5
    assert scene.names == ["heartbeat.failed"]


# ------------------------------------------------------------------------------- where it is


def test_where_it_is_is_asked_once(scene: Scene) -> None:
    scene.machine.where = ("i-0123", "eu-central-1a")
    sender = scene.sender()
    pass_time(scene, sender, 3600)
    assert (scene.written().instance_id, scene.written().zone) == ("i-0123", "eu-central-1a")
    assert scene.machine.asked == 1


def test_off_ec2_it_is_not_asked_again(scene: Scene) -> None:
    pass_time(scene, scene.sender(), 3600)
    assert scene.machine.asked == 1


def test_an_instance_of_ec2_that_was_not_told_asks_again_once_an_interval(scene: Scene) -> None:
    identity = "AROAEXAMPLE:i-0123456789abcdef0"
    key = SITE.heartbeat(identity)
    sender = scene.sender(identity=identity)
    scene.change(identity=identity)
    pass_time(scene, sender, 119)
    assert scene.machine.asked == 2
    scene.machine.where = ("i-0123456789abcdef0", "eu-central-1a")
    pass_time(scene, sender, 3600)
    assert scene.written(key).zone == "eu-central-1a"
    assert scene.machine.asked == 3


# ---------------------------------------------------------------------------------- the end


def leave(sender: Sender, farewell: Farewell) -> None:
    sender.end(farewell)
    sender.take_leave()


def test_an_agent_that_ends_leaves_the_word_that_it_stopped(scene: Scene) -> None:
    sender = scene.sender()
    sender.turn()
    leave(sender, Farewell.STOPPED)
    assert scene.written().state == "stopped"
    assert scene.written().serving == STATUS.serving
    assert scene.machine.asked == 1  # where it is; nobody is there to ask how long


def test_an_instance_that_is_taken_away_takes_its_heartbeat_with_it(scene: Scene) -> None:
    scene.machine.where = ("i-0123", "")
    scene.machine.terminating = True
    sender = scene.sender()
    sender.turn()
    leave(sender, Farewell.STOPPED)
    assert scene.bucket.objects == {}


def test_an_instance_of_ec2_that_only_restarts_leaves_it(scene: Scene) -> None:
    scene.machine.where = ("i-0123", "")
    sender = scene.sender()
    sender.turn()
    leave(sender, Farewell.STOPPED)
    assert scene.written().state == "stopped"


def test_an_identity_that_is_given_up_leaves_nothing(scene: Scene) -> None:
    sender = scene.sender()
    sender.turn()
    leave(sender, Farewell.REMOVED)
    assert scene.bucket.objects == {}


def test_that_nothing_could_be_left_is_told(scene: Scene) -> None:
    sender = scene.sender()
    sender.turn()
    scene.bucket.outage = DENIED
    leave(sender, Farewell.REMOVED)
    assert scene.events[0][1]["message"] == "s3:PutObject"


# ----------------------------------------------------------------------------- as a thread


class Watched:
    """The heartbeats of a bucket that tells of every request, and can hang."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.heartbeats = scene.heartbeats()
        self.flows = threading.Event()
        self.flows.set()
        self._changed = threading.Condition()
        scene.bucket.before = self._before

    def _before(self, _operation: str, _key: str) -> None:
        with self._changed:
            self._changed.notify_all()
        assert self.flows.wait(WAIT)

    def apply(self, **settings: Any) -> None:
        found = self.scene.settings(**settings)
        status = msgspec.structs.replace(self.scene.status, identity=found.identity, site=found.site.url)
        self.heartbeats.apply(found, self.scene.bucket, lambda: status if settings else self.scene.status)

    def until(self, reached: Callable[[], bool]) -> None:
        with self._changed:
            while not reached():
                assert self._changed.wait(WAIT), self.scene.bucket.requests

    def requested(self, *requests: tuple[str, str]) -> None:
        """Until these have been made, all told."""
        self.until(lambda: len(self.scene.bucket.requests) >= len(requests))
        assert self.scene.bucket.requests == list(requests)


@pytest.fixture
def watched(scene: Scene) -> Iterator[Watched]:
    watched = Watched(scene)
    yield watched
    watched.flows.set()
    watched.heartbeats.stop(WAIT)


def test_a_change_that_was_told_is_written(watched: Watched, scene: Scene) -> None:
    watched.apply()
    watched.requested(("put", KEY))
    scene.change(state="staged")
    watched.heartbeats.told()
    watched.requested(("put", KEY), ("put", KEY))
    assert watched.heartbeats.stop(WAIT)
    assert scene.written().state == "stopped"
    assert len(scene.bucket.requests) == 3


def test_a_burst_of_changes_is_one_heartbeat_that_says_how_it_ended(
    watched: Watched, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "GATHER", 0.5)
    watched.apply()
    watched.requested(("put", KEY))
    for state in ("staging", "staged", "activating", "steady", "fallback"):
        scene.change(state=state)
        watched.heartbeats.told()
        time.sleep(0.01)  # room for a writer that does not wait
    watched.requested(("put", KEY), ("put", KEY))
    watched.heartbeats._sender.end(Farewell.NOTHING)  # type: ignore[union-attr]  # it was applied
    watched.heartbeats._sender.join(WAIT)  # type: ignore[union-attr]
    assert len(scene.bucket.requests) == 2
    assert scene.written().state == "fallback"


def test_who_has_nothing_to_tell_asks_nobody(watched: Watched, scene: Scene) -> None:
    reads = 0

    def read() -> Status:
        nonlocal reads
        reads += 1
        return scene.status

    watched.heartbeats.apply(scene.settings(), scene.bucket, read)
    watched.requested(("put", KEY))
    watched.heartbeats.told()
    time.sleep(10 * sender_module.GATHER)
    assert reads == 2


def test_nobody_waits_for_an_s3_that_hangs(watched: Watched) -> None:
    watched.flows.clear()
    watched.apply()
    watched.requested(("put", KEY))
    watched.heartbeats.told()  # returns, and so do these
    assert not watched.heartbeats.stop(0.01)


def test_another_interval_goes_on_with_the_same_heartbeat(watched: Watched) -> None:
    watched.apply()
    watched.requested(("put", KEY))
    watched.apply(heartbeat_interval=30)
    watched.requested(("put", KEY), ("put", KEY))


def test_another_identity_removes_the_heartbeat_of_the_old_one(watched: Watched, scene: Scene) -> None:
    watched.apply()
    watched.requested(("put", KEY))
    watched.apply(identity="i-2")
    other = SITE.heartbeat("i-2")
    watched.requested(("put", KEY), ("delete", KEY), ("put", other))


def test_another_site_removes_it_from_the_old_one(watched: Watched, scene: Scene) -> None:
    watched.apply()
    watched.requested(("put", KEY))
    watched.apply(site=f"s3://{SITE.bucket}/other")
    other = Site(SITE.bucket, "other").heartbeat("i-1")
    watched.requested(("put", KEY), ("delete", KEY), ("put", other))


def test_without_an_interval_none_is_written_and_one_that_is_there_is_removed(
    watched: Watched, scene: Scene
) -> None:
    watched.apply(heartbeat_interval=0)
    watched.heartbeats.told()
    watched.heartbeats.stop(WAIT)
    assert scene.bucket.requests == []
    watched.apply()
    watched.requested(("put", KEY))
    watched.apply(heartbeat_interval=0)
    watched.requested(("put", KEY), ("delete", KEY))
