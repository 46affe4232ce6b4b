"""Instances in virtual time: they poll, stage, swap and write heartbeats as the real ones do, and as told.

What they decide is decided by `machine.decide`; everything slow is a number of seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from s3sync_agent.bucket import Bucket
from s3sync_agent.clock import Clock
from s3sync_agent.deploy.promoter import Promoter, Terms
from s3sync_agent.errors import ObjectMissing
from s3sync_agent.gate import Gate, Verdict
from s3sync_agent.heartbeat import STOPPED, Denied, Failed, Heartbeat, Staged, encode_heartbeat
from s3sync_agent.layout import Site
from s3sync_agent.machine import View, decide
from s3sync_agent.pointer import MAX_POINTER_BYTES, Pointer, format_time, parse_pointer
from s3sync_agent.release import digest
from tests.fakes import MemoryBucket
from tests.releases import NOON, SITE

STEP = 0.1  # seconds of virtual time


class VirtualClock:
    """Everybody's clock, S3's too. It moves when somebody sleeps, and then instances live on."""

    def __init__(self, now: float = NOON) -> None:
        self.at = now
        self.slept = 0.0
        self.passing: list[Callable[[float], object]] = []

    def __call__(self) -> float:
        return self.at

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at - 1_000_000.0

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        until = self.at + seconds
        while self.at < until:
            self.at = min(until, round(self.at + STEP, 6))
            for each in list(self.passing):
                each(self.at)


class Store(Protocol):
    """Where a fake instance reads the pointer and writes its heartbeat."""

    def read(self, key: str) -> bytes | None: ...

    def write(self, key: str, body: bytes) -> None: ...


@dataclass(frozen=True)
class InMemory:
    """Beside the requests that a bucket in memory counts."""

    bucket: MemoryBucket

    def read(self, key: str) -> bytes | None:
        stored = self.bucket.objects.get(key)
        return stored.body if stored else None

    def write(self, key: str, body: bytes) -> None:
        self.bucket.place(key, body)


@dataclass(frozen=True)
class OnServer:
    bucket: Bucket

    def read(self, key: str) -> bytes | None:
        try:
            return self.bucket.get(key, limit=MAX_POINTER_BYTES).body
        except ObjectMissing:
            return None

    def write(self, key: str, body: bytes) -> None:
        self.bucket.put(key, body, size=len(body), sha256=digest(body))


@dataclass
class FakeInstance:
    """`refuses` and `lacks_room_for` are versions: found wrong after the swap, and not stageable."""

    store: Store
    identity: str
    site: Site = SITE
    poll: float = 5.0
    stages_in: float = 2.0
    probes_in: float = 0.2
    canary: bool = False
    instance_id: str = ""
    refuses: set[str] = field(default_factory=set)
    lacks_room_for: set[str] = field(default_factory=set)
    clock_offset: float = 0.0
    interval: float = 60.0
    gone: bool = False  # killed: no ticks, no heartbeats
    mute: bool = False  # works, but may not write

    def __post_init__(self) -> None:
        self.pointer: Pointer | None = None
        self.live: str | None = None
        self.promotion_id = ""
        self.good: set[str] = set()
        self.denied: dict[str, str] = {}
        self.activated_at = 0.0
        self.complete: set[str] = set()
        self._staging: dict[str, float] = {}
        self._next_poll = 0.0
        self._written: Heartbeat | None = None
        self._written_at = 0.0

    def tick(self, now: float) -> None:
        if self.gone:
            return
        if now >= self._next_poll:
            self._next_poll = now + self.poll
            stored = self.store.read(self.site.pointer)
            self.pointer = parse_pointer(stored).pointer if stored else None
        if self.pointer is not None:
            self._follow(self.pointer, now)
        self.beat(now)

    def _follow(self, pointer: Pointer, now: float) -> None:
        for ref in pointer.named():
            if ref.id not in self.complete and ref.version not in self.lacks_room_for:
                done = self._staging.setdefault(ref.id, now + self.stages_in)
                if now >= done:
                    self.complete.add(ref.id)
        decision = decide(
            View(
                pointer=pointer,
                live=self.live,
                complete=frozenset(self.complete),
                now=now,
                identity=self.identity,
                ready=frozenset(ref.promotion_id for ref in pointer.named()),
                canary=self.canary,
                denied=frozenset(self.denied),
            )
        )
        if decision.activate is not None:
            self.live, self.activated_at = decision.activate.id, now
        if decision.want is not None and decision.want.id == self.live:
            self.promotion_id = decision.want.promotion_id
            if now >= self.activated_at + self.probes_in:
                if decision.want.version in self.refuses:
                    self.denied[self.promotion_id] = "GET / answered 500"
                else:
                    self.good.add(self.promotion_id)

    def beat(self, now: float, *, state: str = "") -> None:
        """Write a heartbeat when there is news, or it is time."""
        pointer = self.pointer
        named = pointer.named() if pointer else ()
        beat = Heartbeat(
            site=self.site.url,
            identity=self.identity,
            instance_id=self.instance_id,
            version="0.2.0",
            state=state or ("steady" if self.live else "waiting"),
            canary=self.canary,
            serving=self.live or "",
            promotion_id=self.promotion_id,
            good=self.promotion_id in self.good,
            activated_at=format_time(self.activated_at) if self.activated_at else "",
            sequence=pointer.sequence if pointer else 0,
            staged=tuple(
                Staged(version=r.version, manifest_sha256=r.manifest_sha256, promotion_id=r.promotion_id)
                for r in named
                if r.id in self.complete
            ),
            denied=tuple(Denied(promotion_id=key, reason=why) for key, why in self.denied.items()),
            failed=tuple(
                Failed(
                    promotion_id=r.promotion_id,
                    release=r.id,
                    error="DiskFull",
                    message="needs 3 GiB, has 1 GiB",
                    hint="make room",
                )
                for r in named
                if r.version in self.lacks_room_for
            ),
            clock_offset=self.clock_offset,
            next_poll_at=format_time(self._next_poll),
            poll_interval=self.poll,
            heartbeat_interval=self.interval,
            stage_seconds=self.stages_in,
        )
        if self.mute or (beat == self._written and now < self._written_at + self.interval):
            return
        self._written, self._written_at = beat, now
        told = msgspec.structs.replace(beat, written_at=format_time(now))
        self.store.write(self.site.heartbeat(self.identity), encode_heartbeat(told))

    def stop(self, now: float) -> None:
        """A clean end of the agent; nginx goes on."""
        self.beat(now, state=STOPPED)
        self.gone = True


class FakeFleet:
    def __init__(self, bucket: MemoryBucket, clock: VirtualClock) -> None:
        self.bucket = bucket
        self.clock = clock
        self.instances: list[FakeInstance] = []
        clock.passing.append(self._tick)

    def add(self, identity: str, **behaviour: object) -> FakeInstance:
        instance = FakeInstance(InMemory(self.bucket), identity, **behaviour)  # type: ignore[arg-type]  # as named there
        self.instances.append(instance)
        return instance

    def settle(self) -> None:
        """Until everybody serves what there is."""
        self.clock.sleep(30)

    def serving(self) -> dict[str, str]:
        """The version that each serves."""
        return {each.identity: (each.live or "").rpartition("-")[0] for each in self.instances}

    def _tick(self, now: float) -> None:
        for each in self.instances:
            each.tick(now)


@contextmanager
def one_instance(bucket: Bucket, site: Site, identity: str = "i-1") -> Iterator[FakeInstance]:
    """On a real server, in real time, as long as the block runs: what is promoted is taken."""
    instance = FakeInstance(OnServer(bucket), identity, site, poll=0.2, stages_in=0.1, probes_in=0.1)
    ended = threading.Event()

    def live() -> None:
        while not ended.wait(0.1):
            instance.tick(time.time())

    instance.tick(time.time())
    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield instance
    finally:
        ended.set()
        thread.join(timeout=10)


class Heard:
    """Somebody who is told, and remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.looks: list[tuple[str, Verdict]] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def look(self, doing: str, verdict: Verdict) -> None:
        self.looks.append((doing, verdict))


def promoter(
    bucket: Bucket,
    clock: Clock | None = None,
    *,
    by: str = "alice",
    reason: str = "",
    heard: Heard | None = None,
    ignore: tuple[str, ...] = (),
    expect: int = 0,
    timeout: float = 600.0,
    take_back: bool = True,
    members: Callable[[], frozenset[str]] | None = None,
    site: Site = SITE,
) -> Promoter:
    """Whoever promotes in this test."""
    return Promoter(
        bucket,
        site,
        by=by,
        reason=reason,
        clock=clock or VirtualClock(),
        show=heard or Heard(),
        terms=Terms(Gate(frozenset(ignore), expect=expect), timeout, take_back),
        members=members,
    )
