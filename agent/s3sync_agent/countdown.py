"""Counting down to an activation: everything slow before the instant, one rename at it, the probe after it,
whatever the worker is doing meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from s3sync_agent.clock import Clock
from s3sync_agent.errors import S3SyncError
from s3sync_agent.machine import Due
from s3sync_agent.sync import Sync

# How long before an instant all is done that can be, and the site is asked how it answers; seconds.
ARM_BEFORE = 1.0

Event = Callable[..., None]
Job = Callable[[], object]


class Countdown:
    """Belongs to the loop. `give` has the prober do a slow job; `event` reports."""

    def __init__(self, sync: Sync, clock: Clock, give: Callable[[Job], None], event: Event) -> None:
        self._sync = sync
        self._clock = clock
        self._give = give
        self._event = event
        self._due: Due | None = None
        self._done: Due | None = None
        self._armed = False

    def look(self, *, forget: bool) -> None:
        """Ask what lies ahead now, or has come since the tick ended. During a tick (`forget` false) what was
        known stays: the tick may have the pointer in its hands."""
        try:
            due = self._sync.next_due()
        except OSError:  # the loop outlives a state directory that cannot be read; the tick tells
            due = None
        if due is not None and due == self._done:  # what failed at its instant is left to the ticks
            due = None
        if due is None and not forget:
            return
        self._armed = self._armed and due == self._due  # another instant has to be armed anew
        self._due = due

    def wakes_in(self) -> float | None:
        """Seconds until there is something to do; None when nothing lies ahead."""
        if self._due is None:
            return None
        return self._left(self._due) - (0.0 if self._armed else ARM_BEFORE)

    def act(self) -> bool:
        """Do what it is time for; whether the instant had come."""
        due = self._due
        if due is None:
            return False
        if self._left(due) > 0:
            self._arm(due)
            return False
        self._due, self._done, self._armed = None, due, False
        with self._telling_failure(due):
            self._sync.activate_due()
        self._give(self._sync.prove_due)
        return True

    def _arm(self, due: Due) -> None:
        if self._armed or self._left(due) > ARM_BEFORE:
            return
        self._armed = True
        with self._telling_failure(due):
            self._sync.arm_due(due)
        self._give(self._sync.look_before_due)

    def _left(self, due: Due) -> float:
        return due.at - self._clock.now()

    @contextlib.contextmanager
    def _telling_failure(self, due: Due) -> Iterator[None]:
        try:
            yield
        except (S3SyncError, OSError) as error:
            self._event(
                "activate.failed",
                release=due.ref.id,
                error=type(error).__name__,
                message=str(error),
                hint=error.hint if isinstance(error, S3SyncError) else "",
            )
