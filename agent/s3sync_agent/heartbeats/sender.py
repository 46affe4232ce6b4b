"""The thread that writes the heartbeat: at every change, at least once an interval, and once more at the end.

Nothing here is waited for by a tick or a swap: whoever has news sets an event and goes on.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from enum import Enum, auto
from hashlib import sha256
from typing import Protocol

from msgspec.structs import replace

from s3sync_agent.bucket import Bucket
from s3sync_agent.clock import Clock
from s3sync_agent.errors import S3SyncError
from s3sync_agent.heartbeat import Heartbeat
from s3sync_agent.heartbeats.content import encode_fitting, heartbeat_of, timeless
from s3sync_agent.pointer import format_time
from s3sync_agent.report import Status
from s3sync_agent.settings import Settings

# Changes come in bursts: the end of a tick says in one heartbeat what its steps would say in three.
GATHER = 0.1
# Of the interval: a fleet that was started at one moment must not write in step for ever.
JITTER = 0.1
RETRY_FIRST = 1.0
# How long the first heartbeat after a change of settings waits for the last one before it.
HAND_OVER_SECONDS = 15.0

Read = Callable[[], Status]
Event = Callable[..., None]


class Whereabouts(Protocol):
    """What EC2 tells an instance about itself; bounded waits, no errors."""

    def whereabouts(self) -> tuple[str, str] | None:
        """Instance id and zone; None off EC2."""

    def is_terminating(self) -> bool:
        """Whether the instance is being taken away for good."""


class Farewell(Enum):
    """What is left behind when a sender ends."""

    NOTHING = auto()  # another goes on with the same heartbeat
    STOPPED = auto()  # the agent ends: `stopped`, or no heartbeat where the instance ends with it
    REMOVED = auto()  # this identity is given up


class Sender:
    """Writes the heartbeat of one identity. `read` is asked, and `event` called, from its thread; it begins
    when `after` has ended, or soon."""

    def __init__(
        self,
        settings: Settings,
        bucket: Bucket,
        *,
        read: Read,
        event: Event,
        metadata: Whereabouts,
        clock: Clock,
        chance: Callable[[], float],
        after: Sender | None = None,
    ) -> None:
        self.key = (settings.site.bucket, settings.site.heartbeat(settings.identity))
        self._settings = settings
        self._patient = bucket
        self._bucket: Bucket | None = None
        self._read = read
        self._event = event
        self._metadata = metadata
        self._clock = clock
        self._chance = chance
        self._after = after
        self._where = ("", "")
        self._ask_where_at = self._due = clock.monotonic()
        self._told: Heartbeat | None = None
        self._failures = 0
        self._failing_since = 0.0
        self._farewell = Farewell.NOTHING
        self._news = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def hurry(self) -> None:
        """There may be something to tell."""
        self._news.set()

    def end(self, farewell: Farewell) -> None:
        """Ask it to end; what hangs in it meanwhile is left behind."""
        self._farewell = farewell
        self._ended.set()
        self._news.set()

    def join(self, within: float) -> bool:
        """Whether it has ended by then."""
        self._thread.join(within)
        return not self._thread.is_alive()

    def _run(self) -> None:
        if self._after is not None:
            self._after.join(HAND_OVER_SECONDS)
            self._after = None
        while not self._ended.wait(GATHER):
            self._news.clear()  # before the status is read, so that nothing is missed
            self._news.wait(self.turn())
        self.take_leave()

    # ------------------------------------------------------------------------- writing

    def turn(self) -> float:
        """Write when there is something new, or it is time to; seconds until it is time again."""
        try:
            self._tell()
        except Exception as error:  # noqa: BLE001 - whatever happens here must not touch what is served
            self._note_failure(error)
        return max(0.0, self._due - self._clock.monotonic())

    def take_leave(self) -> None:
        """The end of this heartbeat, as `end` was told."""
        try:
            if self._farewell is Farewell.REMOVED or (
                self._farewell is Farewell.STOPPED and self._is_terminating()
            ):
                self._own_bucket().delete([self.key[1]])
            elif self._farewell is Farewell.STOPPED:
                self._write(self._beat(stopped=True))
        except Exception as error:  # noqa: BLE001 - as above
            self._note_failure(error)

    def _tell(self) -> None:
        self._ask_where()
        beat = self._beat()
        news = timeless(beat)
        if news == self._told and self._clock.monotonic() < self._due:
            return
        self._write(beat)
        self._told = news
        self._note_success()

    def _beat(self, *, stopped: bool = False) -> Heartbeat:
        instance_id, zone = self._where
        return heartbeat_of(self._read(), self._settings, instance_id=instance_id, zone=zone, stopped=stopped)

    def _write(self, beat: Heartbeat) -> None:
        raw = encode_fitting(replace(beat, written_at=format_time(self._clock.now())))
        self._own_bucket().put(
            self.key[1],
            raw,
            size=len(raw),
            sha256=sha256(raw).hexdigest(),
            content_type="application/json",
        )

    def _own_bucket(self) -> Bucket:
        self._bucket = self._bucket or self._patient.impatient()
        return self._bucket

    # ------------------------------------------------------------------------ failures

    def _note_failure(self, error: Exception) -> None:
        """Told once. It is tried again later and later, and whenever there is news."""
        now = self._clock.monotonic()
        if not self._failures:
            self._failing_since = now
            hint = error.hint if isinstance(error, S3SyncError) else ""
            self._event("heartbeat.failed", error=type(error).__name__, message=str(error), hint=hint)
        delay = min(self._settings.heartbeat_interval, RETRY_FIRST * float(2 ** min(self._failures, 12)))
        self._failures += 1
        self._told = None
        self._due = now + delay * (0.5 + self._chance() / 2)

    def _note_success(self) -> None:
        now = self._clock.monotonic()
        if self._failures:
            self._event("heartbeat.recovered", seconds=round(now - self._failing_since, 1))
        self._failures = 0
        self._due = now + self._settings.heartbeat_interval * (1 - JITTER * self._chance())

    # ---------------------------------------------------------------------- where it is

    def _ask_where(self) -> None:
        """Once; again, at times, where an instance of EC2 was not told by it."""
        now = self._clock.monotonic()
        if now < self._ask_where_at:
            return
        found = self._metadata.whereabouts()
        self._where = found or self._where
        again = found is None and self._looks_like_ec2()
        self._ask_where_at = now + self._settings.heartbeat_interval if again else float("inf")

    def _looks_like_ec2(self) -> bool:
        return _EC2_IDENTITY.search(self._settings.identity) is not None

    def _is_terminating(self) -> bool:
        """Asked only where somebody may answer: elsewhere it would take the second that is left."""
        on_ec2 = self._where != ("", "") or self._looks_like_ec2()
        return on_ec2 and self._metadata.is_terminating()


_EC2_IDENTITY = re.compile(r":i-[0-9a-f]{8,}\Z")  # <role id>:<instance id>


class Heartbeats:
    """The sender that the settings ask for. No method waits longer than it says."""

    def __init__(
        self, *, event: Event, metadata: Whereabouts, clock: Clock, chance: Callable[[], float]
    ) -> None:
        self._event = event
        self._metadata = metadata
        self._clock = clock
        self._chance = chance
        self._sender: Sender | None = None

    def apply(self, settings: Settings, bucket: Bucket, read: Read) -> None:
        """Go on with these, at once. A heartbeat that nobody writes any more is removed: it would be
        taken for that of an instance that has fallen silent."""
        before, self._sender = self._sender, None
        if settings.heartbeat_interval:
            self._sender = Sender(
                settings,
                bucket,
                read=read,
                event=self._event,
                metadata=self._metadata,
                clock=self._clock,
                chance=self._chance,
                after=before,
            )
        if before is not None:
            goes_on = self._sender is not None and self._sender.key == before.key
            before.end(Farewell.NOTHING if goes_on else Farewell.REMOVED)
        if self._sender is not None:
            self._sender.start()

    def told(self) -> None:
        """The status has been written anew."""
        if self._sender is not None:
            self._sender.hurry()

    def stop(self, within: float) -> bool:
        """Say that the agent ends; whether that could be tried in so many seconds of real time."""
        if self._sender is None:
            return True
        self._sender.end(Farewell.STOPPED)
        return self._sender.join(within)
