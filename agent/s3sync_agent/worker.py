"""A thread that does one slow job at a time, in the order in which they were given."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from s3sync_agent.clock import Clock
from s3sync_agent.instance import Stopped


class Worker:
    """Does one job at a time in a thread of its own."""

    def __init__(self, name: str, clock: Clock, done: Callable[[Any], None]) -> None:
        self._clock = clock
        self._done = done
        self._jobs: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.busy = False
        self.given_at = self.progress_at = clock.monotonic()

    def start(self) -> None:
        self._thread.start()

    def beat(self) -> None:
        """Progress of a long job; raises Stopped when there should be no more of it."""
        self.progress_at = self._clock.monotonic()
        if self._stopping.is_set():
            raise Stopped

    def give(self, job: Callable[[], Any]) -> None:
        self.busy = True
        self.given_at = self.progress_at = self._clock.monotonic()
        self._jobs.put(job)

    def stop(self, within: float) -> bool:
        """Ask it to stop; whether it did."""
        self._stopping.set()
        self._jobs.put(None)
        self._thread.join(within)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                result = job()
            except Stopped:
                return
            self._done(result)
