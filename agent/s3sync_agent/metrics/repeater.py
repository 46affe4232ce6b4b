"""A thread that hands metrics over again and again, and tells when that begins to fail and when it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from s3sync_agent.errors import S3SyncError

Event = Callable[..., None]

# How long a new exporter waits for the port or the file of the one before.
HAND_OVER_SECONDS = 2.0


class Exporter(Protocol):
    def export(self) -> None:
        """Hand the numbers over, once. Whatever it raises is told, and it is tried again."""

    def close(self) -> None:
        """Give back what it holds."""


def until_next(passed: float, every: float) -> float:
    """Seconds until the next round. Rounds do not slip by what one takes: in every minute there is one."""
    return every - passed % every


class Repeater:
    """Exports at once, then every so many seconds, and when it is hurried. `make` is called by its thread,
    so that imports and settings of AWS hold nobody up. Begins when `after` has ended, or soon."""

    def __init__(
        self,
        to: str,
        make: Callable[[], Exporter],
        every: float,
        event: Event,
        after: Repeater | None = None,
    ) -> None:
        self._to = to
        self._make = make
        self._every = every
        self._event = event
        self._after = after
        self._exporter: Exporter | None = None
        self._failing_since: float | None = None
        self._ended = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"metrics-{to}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def hurry(self) -> None:
        self._wake.set()

    def end(self) -> None:
        """Ask it to end. What hangs in it meanwhile is nobody's business, and is not told any more."""
        self._ended = True
        self._wake.set()

    def join(self, within: float) -> None:
        self._thread.join(within)

    def _run(self) -> None:
        if self._after is not None:
            self._after.join(HAND_OVER_SECONDS)
            self._after = None
        begun = time.monotonic()
        while not self._ended:
            self._attempt()
            self._wake.wait(until_next(time.monotonic() - begun, self._every))
            self._wake.clear()
        if self._exporter is not None:
            try:
                self._exporter.close()
            except OSError:  # it was told why when it was written to
                return

    def _attempt(self) -> None:
        try:
            if self._exporter is None:
                self._exporter = self._make()
            self._exporter.export()
        except Exception as error:  # noqa: BLE001 - whatever happens here must not touch what is served
            self._note_failure(error)
        else:
            self._note_success()

    def _note_failure(self, error: Exception) -> None:
        if self._failing_since is not None or self._ended:
            return
        self._failing_since = time.monotonic()
        hint = error.hint if isinstance(error, S3SyncError) else ""
        self._event("metrics.failed", to=self._to, error=type(error).__name__, message=str(error), hint=hint)

    def _note_success(self) -> None:
        if self._failing_since is None or self._ended:
            return
        seconds = round(time.monotonic() - self._failing_since, 1)
        self._failing_since = None
        self._event("metrics.recovered", to=self._to, seconds=seconds)
