"""`assets/`: hard links of the immutable files of every release kept here.

A page that one instance rendered finds its fingerprinted files on every other, before, while and
after a release goes live. nginx looks here first.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from s3sync_agent import failpoints
from s3sync_agent.release import FileEntry
from s3sync_agent.webroot import durable
from s3sync_agent.webroot.staging import is_pristine

FindSource = Callable[[FileEntry], str | None]


def sync_assets(root: Path, wanted: Mapping[str, FileEntry], find: FindSource, *, scratch: Path) -> None:
    """Make `root` hold exactly the files of `wanted`.

    `find` names a file on this file system with an entry's content, or None when there is none
    any more; that asset is then left out.
    """
    _remove_others(root, wanted)
    for path, entry in wanted.items():
        target = root / path
        if is_pristine(target, entry):
            continue
        source = find(entry)
        if source is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            durable.place(source, target, scratch=scratch)
    failpoints.reach("assets.linked")


def _remove_others(root: Path, wanted: Mapping[str, FileEntry]) -> None:
    top = str(root)
    for directory, subdirectories, files in os.walk(top, topdown=False):
        for name in files:
            path = f"{directory}/{name}"
            if path[len(top) + 1 :] not in wanted:
                os.unlink(path)  # os.walk gives strings; a Path each doubles the time
        for name in subdirectories:
            _remove_when_empty(Path(directory) / name)


def _remove_when_empty(directory: Path) -> None:
    if directory.is_symlink():  # nothing of ours
        directory.unlink()
        return
    try:
        directory.rmdir()
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
