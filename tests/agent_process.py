"""The real agent as a process of its own, for tests: started, listened to, signalled, ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WAIT_SECONDS = 20.0
COMMANDS = Path(sys.executable).parent


def command(name: str, *arguments: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run one of our commands to its end."""
    return subprocess.run(
        [str(COMMANDS / name), *arguments],
        env=minimal(environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def minimal(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment with nothing of the person's who runs the tests in it."""
    return {"PATH": f"{COMMANDS}:{os.environ['PATH']}", "HOME": os.devnull, **environ}


@dataclass
class AgentProcess:
    """`events` grows as the agent reports; `notified` as it talks to systemd."""

    process: subprocess.Popen[str]
    events: list[dict[str, Any]] = field(default_factory=list)
    notified: list[str] = field(default_factory=list)
    news: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, event: str, *, count: int = 1, seconds: float = WAIT_SECONDS) -> dict[str, Any]:
        """Until the agent has reported `event` for the `count`th time; returns that report."""

        def found() -> list[dict[str, Any]]:
            return [report for report in self.events if report["event"] == event]

        self._until(lambda: len(found()) >= count, f"event {event} × {count}", seconds)
        return found()[count - 1]

    def wait_notified(self, beginning: str, *, seconds: float = WAIT_SECONDS) -> str:
        """Until a line to systemd begins so; returns the newest such line."""

        def found() -> list[str]:
            return [line for line in self.notified if line.startswith(beginning)]

        self._until(lambda: bool(found()), f"{beginning} to systemd", seconds)
        return found()[-1]

    def _until(self, reached: Callable[[], bool], what: str, seconds: float) -> None:
        with self.news:
            if not self.news.wait_for(reached, timeout=seconds):
                raise AssertionError(f"no {what} within {seconds} s; events: {self.events}")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> float:
        """End it as systemd would; returns how long it took, in seconds."""
        started = time.monotonic()
        self.process.terminate()
        self.process.wait(timeout=10)
        return time.monotonic() - started


@contextmanager
def running(environ: Mapping[str, str], *arguments: str, folder: Path) -> Iterator[AgentProcess]:
    """`s3sync-agent run`, with a systemd that listens; killed at the end if it is still there."""
    address = folder / "notify"
    address.unlink(missing_ok=True)
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    channel.bind(str(address))
    process = subprocess.Popen(
        [str(COMMANDS / "s3sync-agent"), "run", *arguments],
        env=minimal({"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "3000000", **environ}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    agent = AgentProcess(process)
    threads = [
        threading.Thread(target=_read_events, args=(agent,), daemon=True),
        threading.Thread(target=_read_notifications, args=(agent, channel), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield agent
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=10)
        threads[0].join(timeout=5)
        channel.close()
        assert process.stdout is not None
        process.stdout.close()


def _read_events(agent: AgentProcess) -> None:
    assert agent.process.stdout is not None
    for line in agent.process.stdout:
        try:
            report = json.loads(line)
        except ValueError:  # an error message of the command itself
            report = {"event": "(text)", "text": line}
        with agent.news:
            agent.events.append(report)
            agent.news.notify_all()


def _read_notifications(agent: AgentProcess, channel: socket.socket) -> None:
    while True:
        try:
            lines = channel.recv(4096).decode().splitlines()
        except OSError:
            return
        with agent.news:
            agent.notified.extend(lines)
            agent.news.notify_all()
