"""Drift: finding out that a served file is not what its manifest says."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from s3sync_agent.layout import parents
from s3sync_agent.release import FileEntry, Manifest
from s3sync_agent.webroot.staging import is_pristine

Kind = Literal["missing", "changed", "extra"]
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One path that is not as the manifest says."""

    path: str
    kind: Kind


def hash_file(path: Path | str) -> str:
    """SHA-256 of a regular file, hexadecimal. Raises OSError; never follows a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def scan(tree: Path, manifest: Manifest, *, hashing: bool, beat: Callable[[], None]) -> list[Finding]:
    """Compare a whole tree; with `hashing` every byte, otherwise type, size and mtime."""
    found = []
    for entry in manifest.files:
        beat()
        kind = inspect(tree, entry, hashing=hashing)
        if kind:
            found.append(Finding(entry.path, kind))
    known = {entry.path for entry in manifest.files}
    found += [Finding(path, "extra") for path in _files_below(tree) if path not in known]
    return found


def scan_paths(tree: Path, manifest: Manifest, paths: Iterable[str]) -> list[Finding]:
    """Compare only these paths (files or directories, relative), hashing them."""
    touched = {first_link(tree, path) for path in paths}
    entries = [
        entry for entry in manifest.files if not touched.isdisjoint([entry.path, *parents(entry.path)])
    ]
    found = [Finding(e.path, kind) for e in entries if (kind := inspect(tree, e, hashing=True))]
    known = {entry.path for entry in manifest.files}
    for path in sorted(touched - known):
        place = tree / path
        if place.is_dir() and not place.is_symlink():
            found += [
                Finding(f"{path}/{p}", "extra") for p in _files_below(place) if f"{path}/{p}" not in known
            ]
        elif os.path.lexists(place):
            found.append(Finding(path, "extra"))
    return found


def first_link(tree: Path, path: str) -> str:
    """`path`, or the symbolic link on the way to it: what lies behind one is not ours to touch."""
    return next((parent for parent in parents(path) if (tree / parent).is_symlink()), path)


def inspect(tree: Path, entry: FileEntry, *, hashing: bool) -> Kind | None:
    """What is wrong with one file, or None."""
    path = f"{tree}/{entry.path}"
    try:
        os.lstat(path)
        as_listed = is_pristine(path, entry) and (not hashing or hash_file(path) == entry.sha256)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError:  # a bad sector, no permission: nginx cannot read it either
        return "changed"
    return None if as_listed else "changed"


def _files_below(tree: Path) -> Iterable[str]:
    """Everything below `tree` that is not a directory, relative, sorted."""
    found = []
    top = len(str(tree)) + 1
    for directory, subdirectories, files in os.walk(tree):
        links = [name for name in subdirectories if Path(directory, name).is_symlink()]
        found += [f"{directory}/{name}"[top:] for name in [*files, *links]]
    return sorted(found)


# Without a filter inotify also reports every read by nginx.
_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirMovedEvent,
    DirDeletedEvent,
]


class _Overflow(logging.Handler):
    """watchdog tells only its log that the kernel dropped events."""

    def __init__(self, overflowed: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._overflowed = overflowed

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage():
            self._overflowed()


class Watcher(FileSystemEventHandler):
    """Watches directories. Calls `touched(directory, relative path)` from a thread of its own, and
    `overflowed` when events were lost, so that everything has to be looked at."""

    def __init__(
        self,
        touched: Callable[[Path, str], None],
        overflowed: Callable[[], None],
        *,
        recursive: bool = True,
    ) -> None:
        self._recursive = recursive
        self._touched = touched
        self._overflow = _Overflow(overflowed)
        self._observer: BaseObserver | None = None
        self._roots: tuple[Path, ...] = ()

    def watch(self, roots: tuple[Path, ...]) -> None:
        """Watch exactly these directories, and all below when recursive.

        Raises OSError when the kernel has not enough watches; nothing is watched then.
        """
        if roots == self._roots and self._observer is not None:
            return
        self.stop()
        if not roots:  # an agent that has no configuration file
            return
        logging.getLogger("watchdog").addHandler(self._overflow)
        observer = Observer()
        try:
            observer.start()
            for root in roots:
                observer.schedule(self, str(root), recursive=self._recursive, event_filter=_EVENTS)
            # watchdog keeps it to itself when the kernel runs out of watches below a root; one more root
            # shows whether there was one left.
            observer.schedule(self, str(roots[0].parent), recursive=False, event_filter=[FileMovedEvent])
        except OSError:
            observer.stop()
            logging.getLogger("watchdog").removeHandler(self._overflow)
            raise
        self._observer, self._roots = observer, roots

    def stop(self) -> None:
        logging.getLogger("watchdog").removeHandler(self._overflow)
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(timeout=2)
            self._observer = None
            self._roots = ()

    def on_any_event(self, event: FileSystemEvent) -> None:
        for path in (event.src_path, event.dest_path):
            place = Path(os.fsdecode(path)) if path else None
            root = next((root for root in self._roots if place and root in place.parents), None)
            if place is not None and root is not None:
                self._touched(root, str(place.relative_to(root)))
