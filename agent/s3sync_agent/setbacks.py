"""What could not be staged, why, and when it is tried again.

The pointer is asked for all the while: a newer one is taken at once.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from s3sync_agent.errors import HookUnusable, ReleaseError, S3SyncError, SourceChanged, StagingError
from s3sync_agent.instance import Instance

# Doubling from the first to the limit, in seconds.
RETRY_FIRST, RETRY_LIMIT = 5.0, 60.0

Done = TypeVar("Done")


@dataclass(slots=True)
class Setback:
    """A release that could not be staged."""

    error: S3SyncError
    again_at: float
    delay: float


class Setbacks:
    """By release id, or by the fingerprint of a plain tree."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._all: dict[str, Setback] = {}

    def errors(self) -> dict[str, S3SyncError]:
        return {release: setback.error for release, setback in self._all.copy().items()}

    def keep(self, releases: Collection[str]) -> None:
        """Forget all others: nobody wants them any more."""
        self._all = {release: kept for release, kept in self._all.items() if release in releases}

    def unless_just_failed(self, release: str, stage: Callable[[], Done]) -> Done:
        """Stage something, or raise the error of the last try while it is too early for another."""
        clock = self._instance.clock
        before = self._all.get(release)
        if before is not None and clock.monotonic() < before.again_at:
            raise before.error.with_traceback(None)
        try:
            done = stage()
        except SourceChanged:  # nothing failed; what is there now is another tree
            raise
        except (ReleaseError, StagingError, HookUnusable) as error:
            traceback.clear_frames(error.__traceback__)  # they hold the manifest, and the error is kept
            delay = min(RETRY_LIMIT, before.delay * 2) if before else RETRY_FIRST
            self._all[release] = Setback(error, clock.monotonic() + delay, delay)
            if before is None or type(before.error) is not type(error):
                self._report(release, error, delay)
            raise
        self._all.pop(release, None)
        return done

    def was_said(self, error: S3SyncError) -> bool:
        """Whether `stage.failed` has told about this error already."""
        return any(setback.error is error for setback in self._all.values())

    def _report(self, release: str, error: S3SyncError, delay: float) -> None:
        self._instance.reporter.event(
            "stage.failed",
            release=release,
            error=type(error).__name__,
            message=str(error),
            hint=error.hint,
            retry_in=delay,
        )
