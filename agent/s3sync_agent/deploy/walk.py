"""Reads a site's folder: which files a release would hold, and what stands in the way.

Symbolic links that stay inside the folder are followed and what they lead to is published as
ordinary files, because a release has no links; everything else that is not a regular file is an
error, never left out in silence.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from s3sync_agent import layout
from s3sync_agent.deploy.findings import Finding, Severity
from s3sync_agent.errors import ConfigError, UnsafePath

LEFT_OUT = frozenset({".DS_Store", "Thumbs.db"})
MAX_ENTRIES = 1_000_000  # links to folders can multiply a small folder without end

_Chain = frozenset[tuple[int, int]]


def walk(root: Path) -> tuple[list[str], list[Finding]]:
    """The paths of the files below `root`, and what was found on the way.

    Every path passed `layout.check_path` and could be opened. Raises ConfigError unless `root` is
    a folder that can be read.
    """
    try:
        status = root.stat()
        os.scandir(root).close()
    except OSError as error:
        raise ConfigError(
            f"{layout.escape(str(root))!r} cannot be read: {error.strerror}",
            hint="give the folder that holds the built site",
        ) from error
    walking = _Walk(root)
    walking.folder("", frozenset({_identity(status)}))
    return walking.files, walking.findings


class _Walk:
    def __init__(self, root: Path) -> None:
        self.files: list[str] = []
        self.findings: list[Finding] = []
        self._root = Path(os.path.realpath(root))
        self._entries = 0

    def folder(self, relative: str, chain: _Chain) -> None:
        """`chain` identifies the folders that lead here; depth is bounded by `check_path`."""
        try:
            with os.scandir(self._full(relative)) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._unreadable(relative, error)
            return
        for entry in found:
            self._entries += 1
            if self._entries > MAX_ENTRIES:
                break
            self._entry(f"{relative}/{entry.name}" if relative else entry.name, entry, chain)
        if self._entries == MAX_ENTRIES + 1:
            self._entries += 1  # say it once, not in every folder on the way back
            self._find("error", relative, "too-many", f"there are more than {MAX_ENTRIES} files and folders")

    def _entry(self, relative: str, entry: os.DirEntry[str], chain: _Chain) -> None:
        if not self._wanted(relative, entry.name):
            return
        try:
            if entry.is_symlink():
                self._link(relative, chain)
            else:
                self._take(relative, entry.stat(follow_symlinks=False), chain)
        except OSError as error:  # it went away, or the folder may be listed but not entered
            self._unreadable(relative, error)

    def _wanted(self, relative: str, name: str) -> bool:
        if name in LEFT_OUT or name.startswith(".#"):  # the latter: Emacs, while a buffer is unsaved
            self._find(
                "warning", relative, "left-out", "left out: a desktop or editor wrote it, no site needs it"
            )
        elif name == ".git":
            self._find("error", relative, "git-folder", "this is a Git work tree, not a built site")
        elif layout.is_reserved(relative):
            self._find("error", relative, "reserved", f"the name {layout.RESERVED} is reserved at the top")
        else:
            try:
                layout.check_path(relative)
            except UnsafePath as error:
                self._find("error", relative, "unsafe-name", str(error))
            else:
                return True
        return False

    def _link(self, relative: str, chain: _Chain) -> None:
        try:
            status = self._full(relative).stat()
        except (FileNotFoundError, NotADirectoryError):
            self._find("error", relative, "dangling-link", "the symbolic link leads nowhere")
            return
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            self._find("error", relative, "link-loop", "the symbolic link leads back to itself")
            return
        target = os.path.realpath(self._full(relative))
        inside = os.path.relpath(target, self._root)
        if inside == ".." or inside.startswith("../"):
            self._find("error", relative, "link-outside", "the symbolic link leaves the folder")
        elif _identity(status) in chain:
            self._find("error", relative, "link-loop", "the symbolic link leads to a folder it lies in")
        else:
            what = "folder" if stat.S_ISDIR(status.st_mode) else "file"
            shown = layout.escape(inside)
            self._find("warning", relative, "link-followed", f"published as a copy of the {what} {shown!r}")
            self._take(relative, status, chain)

    def _take(self, relative: str, status: os.stat_result, chain: _Chain) -> None:
        if stat.S_ISDIR(status.st_mode):
            self.folder(relative, chain | {_identity(status)})
        elif stat.S_ISREG(status.st_mode):
            os.close(os.open(self._full(relative), os.O_RDONLY | os.O_NONBLOCK))
            self.files.append(relative)
        else:
            kind = _SPECIAL.get(stat.S_IFMT(status.st_mode), "special file")
            self._find("error", relative, "special-file", f"a {kind} cannot be published")

    def _unreadable(self, relative: str, error: OSError) -> None:
        self._find("error", relative, "unreadable", f"it cannot be read: {error.strerror}")

    def _find(self, severity: Severity, relative: str, code: str, message: str) -> None:
        self.findings.append(Finding(severity, layout.escape(relative) or ".", None, code, message))

    def _full(self, relative: str) -> Path:
        return self._root / relative


_SPECIAL = {
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
}


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
