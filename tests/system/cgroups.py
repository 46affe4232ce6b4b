"""Control groups for what the harness starts: a machine delegates its own, and whatever is left of a
test run that died is found in them.

Every group is `s3sync-system/<name>` below the caller's own, in the unified hierarchy or, where the
kernel still has them, in each of the old ones that a machine's systemd uses.
"""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PARENT = "s3sync-system"
END_SECONDS = 10.0
# The others (cpuset, devices, freezer) need no delegation and cannot be joined without preparation.
_USED = {"", "name=systemd", "memory", "pids", "cpu", "cpuacct", "blkio"}


@dataclass(frozen=True, slots=True)
class Group:
    directories: tuple[Path, ...]

    def command(self, *command: str) -> list[str]:
        """The command, to be run inside the group."""
        joins = "".join(f"echo $$ > {shlex.quote(str(each))}/cgroup.procs\n" for each in self.directories)
        return ["/bin/sh", "-c", f'set -e\n{joins}exec "$@"', "sh", *command]


@contextmanager
def group(name: str) -> Iterator[Group]:
    """Processes that are still in it when the context ends are killed."""
    directories = tuple(own / PARENT / name for own in _own_groups())
    for directory in directories:
        directory.mkdir(parents=True)
    try:
        yield Group(directories)
    finally:
        for directory in directories:
            _remove(directory)
            with suppress(OSError):  # not empty: another machine's
                directory.parent.rmdir()


def sweep() -> None:
    """Kill and remove what a test run that died has left."""
    for mount in {mount for _, mount in _mounts()}:
        for left in sorted(mount.rglob(PARENT)):
            _remove(left)


def _remove(directory: Path) -> None:
    deadline = time.monotonic() + END_SECONDS
    while directory.exists():
        inside = [Path(found) for found, _, _ in os.walk(directory, topdown=False)]
        for each in inside:
            _kill(each)
        with suppress(OSError):  # busy until the last process is gone
            for each in inside:
                each.rmdir()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{directory} is still in use {END_SECONDS:.0f} s after all in it was killed")
        if directory.exists():
            time.sleep(0.02)


def _kill(directory: Path) -> None:
    with suppress(OSError):
        for pid in (directory / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _own_groups() -> list[Path]:
    mounts = dict(_mounts())
    own = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in mounts:
                own.append(mounts[controller] / path.lstrip("/"))
                break
    return own


def _mounts() -> Iterator[tuple[str, Path]]:
    """Controller ("" for the unified hierarchy) and where it is mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2":
            yield "", Path(where)
        elif kind == "cgroup":
            for option in options.split(","):
                if option in _USED:
                    yield option, Path(where)
