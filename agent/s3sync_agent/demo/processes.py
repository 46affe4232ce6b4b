"""Child processes that are gone when their context ends, and when this process does, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from s3sync_agent.demo import events, leash
from s3sync_agent.errors import DemoFailed

STOP_SECONDS = 5.0
_LOOK_EVERY = 0.02
_TAIL_LINES = 15

OnLine = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Process:
    """A running server. Its output is in `log`."""

    name: str
    log: Path
    popen: subprocess.Popen[bytes]

    def ended(self) -> str:
        """How it ended, or "" while it runs."""
        code = self.popen.poll()
        if code is None:
            return ""
        return f"{self.name} was ended by signal {-code}" if code < 0 else f"{self.name} ended with {code}"

    def require(self) -> None:
        """Raise DemoFailed when it has ended."""
        if self.ended():
            raise DemoFailed(f"{self.ended()}{tail(self.log)}")


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    end: signal.Signals = signal.SIGTERM,
    on_line: OnLine | None = None,
) -> Iterator[Process]:
    """Run a server. `end` is the signal it stops at; `on_line` hears its output line by line, from a thread.

    It gets a session of its own, so that a Ctrl-C of the terminal reaches it only through us.
    """
    with log.open("wb") as output:
        popen = subprocess.Popen(  # noqa: S603 - the demo's own words, no shell
            leashed(command, end),
            stdin=subprocess.DEVNULL,
            stdout=output if on_line is None else subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env=dict(environment),
            start_new_session=True,
        )
        try:
            if on_line is not None and popen.stdout is not None:
                threading.Thread(target=_pass_on, args=(popen.stdout, output, on_line), daemon=True).start()
            yield Process(name, log, popen)
        finally:
            _stop(popen, end)


def _pass_on(source: IO[bytes], log: IO[bytes], on_line: OnLine) -> None:
    with suppress(ValueError):  # the log was closed: nobody listens any more
        for line in source:
            log.write(line)
            log.flush()
            on_line(line.decode(errors="replace").rstrip("\n"))


def _stop(popen: subprocess.Popen[bytes], end: signal.Signals) -> None:
    popen.send_signal(end)
    try:
        popen.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(popen.pid, signal.SIGKILL)
        popen.wait(STOP_SECONDS)


def leashed(command: Sequence[str], end: signal.Signals = signal.SIGTERM) -> list[str]:
    """`command`, so that it is sent `end` when this process ends. The main thread must start it."""
    return [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), str(end.value), *command]


def until(
    condition: Callable[[], object], *, what: str, within: float, depends_on: Iterable[Process] = ()
) -> None:
    """Return as soon as the condition holds.

    Raises DemoFailed after `within` seconds, or as soon as a process it depends on has ended.
    """
    deadline = time.monotonic() + within
    needed = tuple(depends_on)
    while not condition():
        for process in needed:
            process.require()
        if time.monotonic() >= deadline:
            raise DemoFailed(f"{what}: not within {within:.0f} s")
        time.sleep(_LOOK_EVERY)


def tail(log: Path) -> str:
    """The last lines of a log, each on a line of its own after what says so; "" when there are none."""
    with suppress(OSError):
        lines = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        if lines:
            return f"\nthe end of {log}:" + "".join(f"\n  {events.brief(line)}" for line in lines)
    return ""
