"""A tree that is being built beside the live one and is never served before it is whole."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from s3sync_agent import layout
from s3sync_agent.release import FileEntry
from s3sync_agent.webroot import durable


def is_pristine(path: Path | str, entry: FileEntry) -> bool:
    """Whether the file at `path` looks like `entry`: size and mtime, which is a function of content."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return (
        stat.S_ISREG(found.st_mode)
        and found.st_mode & 0o444 == 0o444  # nginx is another user
        and found.st_size == entry.size
        and found.st_mtime_ns == layout.mtime_for(entry.sha256) * 1_000_000_000
    )


class StagedFile:
    """One file of the tree while it is written."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o444)

    def write(self, data: bytes | memoryview) -> None:
        durable.write_all(self._descriptor, data)

    def close(self, sha256: str) -> None:
        """The content is complete and has this digest."""
        moment = layout.mtime_for(sha256) * 1_000_000_000
        try:
            os.utime(self._descriptor, ns=(moment, moment))
        finally:
            os.close(self._descriptor)

    def abandon(self) -> None:
        os.close(self._descriptor)


class Staging:
    """`root` lies in the staging directory under a unique name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        # Opened before the first write, so that syncfs reports every error of this tree.
        self._sync_descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)

    def make_directories(self, directories: list[str]) -> None:
        """`directories` relative to the tree, parents first."""
        for directory in directories:
            (self.root / directory).mkdir()

    def link(self, path: str, source: str) -> None:
        """Take over an unchanged file."""
        durable.link_or_copy(source, self.root / path)

    def create(self, path: str) -> StagedFile:
        return StagedFile(self.root / path)

    def close_directories(self, directories: list[str]) -> None:
        """Make every directory below the top read-only."""
        for directory in directories:
            (self.root / directory).chmod(0o555)

    def sync(self) -> None:
        """Everything written so far is on the disk when this returns."""
        durable.sync_file_system(self._sync_descriptor)

    def close(self) -> None:
        os.close(self._sync_descriptor)


def remove_tree(root: Path) -> None:
    """Delete whatever is at `root`; directories may be read-only, and nothing there is no error."""
    try:
        is_directory = stat.S_ISDIR(root.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return
    if not is_directory:
        root.unlink()
        return
    for directory, _, _ in os.walk(root):
        os.chmod(directory, 0o700)  # os.walk gives strings; a Path each doubles the time
    shutil.rmtree(root)
