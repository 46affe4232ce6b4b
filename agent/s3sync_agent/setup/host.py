"""The machine that is set up: what the steps may ask of it and do to it."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from s3sync_agent.errors import SetupFailed
from s3sync_agent.layout import escape

COMMAND_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, and all it said. `code` is 127 for a command that is not there."""

    code: int
    output: str

    @property
    def ok(self) -> bool:
        return self.code == 0


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory's mode and the name of its owner, whose group it has too."""

    mode: int
    owner: str


class Host(Protocol):
    """Paths are absolute. `ask` must not be given a command that changes anything: --dry-run asks too."""

    def ask(self, *command: str) -> Ran: ...
    def run(self, *command: str) -> Ran: ...
    def read(self, path: Path) -> bytes | None:
        """The file's bytes, also through a link; None when there is none."""

    def write(self, path: Path, content: bytes) -> None:
        """Durably and at once, mode 0644; behind a link the file that it leads to."""

    def remove(self, path: Path) -> None:
        """The file, the link or the whole directory; what is not there is no error."""

    def entries(self, path: Path) -> list[str]:
        """The names in a directory; none where there is no directory."""

    def link(self, path: Path) -> str | None:
        """Where the symbolic link leads; None when there is none."""

    def make_link(self, path: Path, target: str) -> None: ...
    def directory(self, path: Path) -> Directory | None:
        """Raises SetupFailed when something else is there, a link to a directory included."""

    def make_directory(self, path: Path, wanted: Directory) -> None:
        """Make it, or give an existing one this mode and owner; what is in it stays as it is."""


class LocalHost:
    """This machine."""

    def ask(self, *command: str) -> Ran:
        return self.run(*command)

    def run(self, *command: str) -> Ran:
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": _with_system(os.environ.get("PATH", ""))}
        try:
            done = subprocess.run(  # noqa: S603  # the steps' own arguments, no shell
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                timeout=COMMAND_TIMEOUT,
            )
        except FileNotFoundError:
            return Ran(127, f"{command[0]} is not installed")
        except OSError as error:
            return Ran(126, str(error))
        except subprocess.TimeoutExpired:
            return Ran(124, f"did not end within {COMMAND_TIMEOUT:.0f} s")
        return Ran(done.returncode, done.stdout.decode(errors="backslashreplace").strip())

    def read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, path: Path, content: bytes) -> None:
        path = path.resolve()
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        with unfinished.open("wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _sync(path.parent)

    def remove(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def entries(self, path: Path) -> list[str]:
        try:
            return [entry.name for entry in path.iterdir()]
        except FileNotFoundError:
            return []

    def link(self, path: Path) -> str | None:
        return str(path.readlink()) if path.is_symlink() else None

    def make_link(self, path: Path, target: str) -> None:
        path.symlink_to(target)

    def directory(self, path: Path) -> Directory | None:
        try:
            found = path.lstat()
        except FileNotFoundError:
            return None
        if not stat.S_ISDIR(found.st_mode):
            raise SetupFailed(
                f"{escape(str(path))} is there and is no directory", hint="move it away and call setup again"
            )
        return Directory(stat.S_IMODE(found.st_mode), _user_name(found.st_uid))

    def make_directory(self, path: Path, wanted: Directory) -> None:
        path.mkdir(exist_ok=True)
        path.chmod(wanted.mode)
        user = pwd.getpwnam(wanted.owner)
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def _with_system(path: str) -> str:
    """Root's own programs, also where root was not asked for by a login."""
    return ":".join(filter(None, [path, "/usr/local/sbin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]))


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
