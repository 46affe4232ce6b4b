"""How long work tells how far it is: one small callback."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal

Stage = Literal["hash", "pack", "upload"]
Progress = Callable[[Stage, int, int], None]  # (stage, bytes done, bytes in all); never two at once


def silent(stage: Stage, done: int, total: int) -> None:
    """For callers who do not want to know."""


class Counter:
    """Adds up what several threads have done and passes it on."""

    def __init__(self, progress: Progress, stage: Stage, total: int) -> None:
        self._progress = progress
        self._stage = stage
        self._total = total
        self._done = 0
        self._lock = threading.Lock()
        progress(stage, 0, total)

    def add(self, size: int) -> None:
        with self._lock:
            self._done += size
            self._progress(self._stage, self._done, self._total)
