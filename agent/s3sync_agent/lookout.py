"""Looking at the pointer during long work: a download may take minutes, and what was wanted when it began
may be the very thing that somebody takes back meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from s3sync_agent.errors import S3SyncError
from s3sync_agent.follow import observe_pointer
from s3sync_agent.instance import Instance
from s3sync_agent.pointer import Document


class Superseded(Exception):
    """There is something more urgent to do than what is being done; raised by `beat` inside long work."""


class Lookout:
    """Takes the place of `instance.beat`. Asks once a poll interval, and only in the thread that is on the
    lookout."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._beat = instance.beat
        self._thread: int | None = None
        self._look_at = 0.0
        self._is_superseded: Callable[[Document], bool] = lambda _: False
        self.answered_at: float | None = None
        instance.beat = self._beat_and_look

    @contextmanager
    def during(self, is_superseded: Callable[[Document], bool] = lambda _: False) -> Iterator[None]:
        """Look while the block works. Raises Superseded out of it when `is_superseded` says so of a newly
        accepted pointer."""
        self._is_superseded = is_superseded
        self._look_at = self._next()
        self._thread = threading.get_ident()
        try:
            yield
        finally:
            self._thread = None

    def _beat_and_look(self) -> None:
        self._beat()
        if self._thread == threading.get_ident() and self._instance.clock.monotonic() >= self._look_at:
            self._look()

    def _look(self) -> None:
        """What goes wrong here, the next tick meets itself, and tells."""
        if self._instance.is_plain_site():
            return
        before = self._instance.accepted()
        try:
            document = observe_pointer(self._instance)
        except S3SyncError:
            return
        finally:
            self._look_at = self._next()
        self.answered_at = self._instance.clock.now()
        if document is not None and document is not before and self._is_superseded(document):
            raise Superseded

    def _next(self) -> float:
        return self._instance.clock.monotonic() + self._instance.settings.poll_interval
