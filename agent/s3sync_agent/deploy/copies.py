"""Finds compressed copies that are none: nginx sends `app.js.gz` to whoever asks for `app.js`."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from gzip import BadGzipFile, GzipFile
from pathlib import Path

from s3sync_agent import layout
from s3sync_agent.deploy.findings import Finding
from s3sync_agent.pack import CHUNK


def check_copies(root: Path, files: Sequence[str]) -> Iterator[Finding]:
    """Errors about the `.gz` among `files`, which lie below `root`, that are not their originals compressed.

    Other copies are sent only to those who ask for them by name, so nothing can be wrong with them.
    """
    present = set(files)
    for path in files:
        original = layout.original_of(path)
        if original not in present or not path.endswith(".gz"):
            continue
        shown = layout.escape(path)
        try:
            if not _unpacks_to(root / original, root / path):
                message = f"it is no compressed copy of {layout.escape(original)!r}"
                yield Finding("error", shown, None, "stale-copy", message)
        except OSError as error:
            yield Finding("error", shown, None, "unreadable", f"it cannot be read: {error.strerror}")


def _unpacks_to(original: Path, copy: Path) -> bool:
    """Reads no further than the first difference, however much the copy would unpack to."""
    with original.open("rb") as plain, GzipFile(copy) as unpacked:
        while True:
            expected = plain.read(CHUNK)
            try:
                found = unpacked.read(len(expected) or 1)
            except (BadGzipFile, EOFError, zlib.error):
                return False
            if found != expected:
                return False
            if not expected:
                return True
