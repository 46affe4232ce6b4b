"""Notices what is saved in a folder, whatever saves it: editors in several steps, builds in many files."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue

from s3sync_agent.drift import Watcher

QUIET = 0.3
BETWEEN = 1.0  # what is published on a change is named by whole seconds
LOOK_EVERY = 1.0

# What editors write beside the file that is edited, and remove again.
_NOT_SAVED = re.compile(r"(?:\.#.*|#.*#|.*~|\..*\.sw[a-z]|4913|\.DS_Store)\Z")
_SHOWN = 3

Snapshot = Mapping[str, tuple[int, int, int]]


def take_snapshot(folder: Path) -> Snapshot:
    """Relative path → what differs after the file was saved. A folder that is gone is an empty one."""
    found = {}
    for directory, _, names in os.walk(folder):
        for name in names:
            if _NOT_SAVED.match(name):
                continue
            path = Path(directory, name)
            try:
                status = path.stat()
            except OSError:  # it went away meanwhile, or is a link that leads nowhere
                continue
            found[str(path.relative_to(folder))] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return found


def describe_changes(before: Snapshot, after: Snapshot) -> str:
    """The names of the files that differ; "" when none does."""
    differ = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    shown = ", ".join(path if path in after else f"{path} (gone)" for path in differ[:_SHOWN])
    return shown if len(differ) <= _SHOWN else f"{shown} and {len(differ) - _SHOWN} more"


class FolderWatch:
    """What is saved in `folder` from now on. `tell` hears when it can only be looked at now and then."""

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self._folder = folder
        self._tell = tell
        self._woken: SimpleQueue[None] = SimpleQueue()
        self._watcher = Watcher(lambda _root, _path: self._woken.put(None), lambda: self._woken.put(None))
        self._watched: tuple[int, int] | None = None
        self._blind = False
        self._seen = self._look()
        self._not_before = time.monotonic() + BETWEEN

    def close(self) -> None:
        self._watcher.stop()

    def next_change(self, meanwhile: Callable[[], None]) -> tuple[float, str]:
        """Wait until something was saved and all has been quiet since: when (monotonic) and what.

        `meanwhile` is called every second; what it raises ends the waiting.
        """
        while True:
            self._wait_for_wake(meanwhile)
            changed_at = time.monotonic()
            self._wait_for_quiet()
            before, self._seen = self._seen, self._look()
            if what := describe_changes(before, self._seen):
                self._not_before = time.monotonic() + BETWEEN
                return changed_at, what

    def _look(self) -> Snapshot:
        """Watch the folder that is there now, a build may have made it anew; then look at it."""
        found = _identity(self._folder)
        if found != self._watched:
            self._watched = found
            self._watcher.stop()
            self._blind = found is not None and not self._can_watch()
        return take_snapshot(self._folder)

    def _can_watch(self) -> bool:
        try:
            self._watcher.watch((self._folder,))
        except OSError as error:
            self._tell(f"{self._folder} is looked at every second: it cannot be watched: {error.strerror}")
            return False
        return True

    def _wait_for_wake(self, meanwhile: Callable[[], None]) -> None:
        while True:
            try:
                self._woken.get(timeout=LOOK_EVERY)
            except Empty:
                meanwhile()
                if self._blind or _identity(self._folder) != self._watched:
                    return
            else:
                return

    def _wait_for_quiet(self) -> None:
        while True:
            try:
                self._woken.get(timeout=max(QUIET, self._not_before - time.monotonic()))
            except Empty:
                return


def _identity(folder: Path) -> tuple[int, int] | None:
    """Which folder it is; None when there is none."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
