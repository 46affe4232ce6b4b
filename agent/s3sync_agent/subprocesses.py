"""Running a program that somebody else wrote: it ends in time, and nothing of it is left.

The program gets no input, no descriptor of ours, the environment it is given and nothing else. All that it
starts and that stays in its process group is killed with it.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MOST_OUTPUT = 4096  # bytes, the last ones
BEAT_SECONDS = 0.25
_DEATH_SECONDS = 5.0  # what the kernel may take to remove a process that was killed
_PIPE = 1 << 20  # bytes; no pipe holds more unless it is told to


@dataclass(frozen=True, slots=True)
class End:
    """How a program ended. `code` is its exit code, negative for a signal, which `killed_by` names then.

    `overran`: it was killed because its time was over. `output` is what it wrote last, to either stream.
    """

    code: int
    overran: bool
    seconds: float
    output: str

    @property
    def killed_by(self) -> str:
        return signal.Signals(-self.code).name if self.code < 0 else ""

    @property
    def last_line(self) -> str:
        lines = self.output.split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    cwd: Path,
    timeout: float,
    beat: Callable[[], None],
) -> End:
    """Run `command` to its end, or kill it after `timeout` seconds.

    `beat` is called every quarter of a second; what it raises kills the program and is passed on. Raises
    OSError when the program could not be started.
    """
    began = time.monotonic()
    process = subprocess.Popen(  # noqa: S603 - whose it is was checked by the caller; no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        env=dict(environment),
        start_new_session=True,
    )
    assert process.stdout is not None  # noqa: S101 - for mypy: it was asked for
    tail = bytearray()
    try:
        os.set_blocking(process.stdout.fileno(), False)
        overran = not _follow(process, process.stdout.fileno(), tail, began + timeout, beat)
    finally:
        # Before the program is reaped: until then nobody else can have its group's number.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # stuck in the kernel; the service's end takes it away
            process.wait(timeout=_DEATH_SECONDS)
        process.stdout.close()
    code = -signal.SIGKILL if process.returncode is None else process.returncode
    return End(code, overran, round(time.monotonic() - began, 3), tail.decode(errors="replace"))


def _follow(
    process: subprocess.Popen[bytes], output: int, tail: bytearray, deadline: float, beat: Callable[[], None]
) -> bool:
    """Read what it writes until it ends: True, or until its time is over: False.

    Its end is that of the process, not of its output, which something in the background may keep open.
    """
    ended = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            selector.register(ended, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                beat()
                ready = {key.fd for key, _ in selector.select(min(left, BEAT_SECONDS))}
                if output in ready and not _read(output, tail):
                    selector.unregister(output)
                if ended in ready:  # what it wrote last was ready with it, and has been read
                    return True
            return False
    finally:
        os.close(ended)


def _read(output: int, tail: bytearray) -> bool:
    """Add what is there to `tail`; False when nothing will come any more."""
    try:
        chunk = os.read(output, _PIPE)
    except BlockingIOError:
        return True
    tail += chunk
    del tail[:-MOST_OUTPUT]
    return bool(chunk)
