"""Reporting: one event per change of state, one status document.

The core says what happened, once; who listens decides what becomes of it.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from s3sync_agent import failpoints, layout
from s3sync_agent.counts import Counts, after_event, after_poll
from s3sync_agent.events import BY_NAME
from s3sync_agent.heartbeat import Denied, Failed, Staged


class Problem(msgspec.Struct, frozen=True):
    """The error that stands, in the words of the log."""

    error: str
    message: str
    hint: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How an agent is. Times are RFC 3339 in UTC or "", durations seconds.

    `staged` is all that is on the disk. What follows `healthy` has defaults, so that the status of an older
    agent can still be read: `promotion_id` and `good` are of what is live, `ready` are the releases that the
    pointer names and that could go live here, `denied` and `failed` those that could not, `poll_interval` is
    the interval in force.
    """

    version: str
    pid: int
    site: str
    identity: str
    source: str
    state: str
    stale: bool
    serving: str
    serving_since: str
    wanted: str
    behind_seconds: float
    because: str
    sequence: int
    staged: tuple[str, ...]
    polled_at: str
    activate_at: str
    clock_offset: float
    problem: Problem | None
    healthy: bool = False
    promotion_id: str = ""
    good: bool = False
    ready: tuple[Staged, ...] = ()
    denied: tuple[Denied, ...] = ()
    failed: tuple[Failed, ...] = ()
    next_poll_at: str = ""
    poll_interval: float = 5.0
    counts: Counts = Counts()


def timeless(status: Status) -> Status:
    """Without what moves on by itself: when this changes, something has happened. That one more poll was
    counted is nothing new."""
    counts = msgspec.structs.replace(status.counts, polls=0, poll_failures=0)
    return msgspec.structs.replace(status, polled_at="", next_poll_at="", behind_seconds=0.0, counts=counts)


def one_line(status: Status, *, now: float) -> str:
    """The status for `systemctl status`: serving X since, wanted Y, behind Z, because W."""
    if status.serving:
        since = (
            datetime.fromisoformat(status.serving_since).strftime(" since %H:%M:%S")
            if status.serving_since
            else ""
        )
        line = f"serving {status.serving}{since}"
    else:
        line = "serving nothing yet"
    if status.wanted and status.wanted != status.serving:
        line += f", wanted {status.wanted}, behind {status.behind_seconds:.0f} s"
    if status.because:
        line += f": {status.because}"
    elif status.polled_at:
        ago = max(0.0, now - datetime.fromisoformat(status.polled_at).timestamp())
        line += f"; polled {ago:.0f} s ago"
    return layout.escape(line)[:400]


class Reporter(Protocol):
    """Receives what happened; must not raise for anything that a network or disk can do."""

    def event(self, name: str, **fields: object) -> None:
        """Report an event of `events.EVENTS` with exactly its fields."""

    def status(self, status: Status) -> None:
        """The agent's status now; called when it changed, and from time to time."""


class Counted:
    """A reporter that counts what passes through it; `told` is called after each status. Any thread may
    report."""

    def __init__(self, reporter: Reporter, counts: Counts, told: Callable[[], None] = lambda: None) -> None:
        self._reporter = reporter
        self._told = told
        self._adding = threading.Lock()
        self.counts = counts

    def event(self, name: str, **fields: object) -> None:
        self._reporter.event(name, **fields)
        with self._adding:
            self.counts = after_event(self.counts, name, fields)

    def polled(self, *, failed: bool) -> None:
        """A poll has ended, well or badly; no event, because an idle poll says nothing."""
        with self._adding:
            self.counts = after_poll(self.counts, failed=failed)

    def status(self, status: Status) -> None:
        self._reporter.status(status)
        self._told()


def checked(name: str, fields: dict[str, object]) -> dict[str, object]:
    """`fields` with text made safe. Raises KeyError or ValueError for what is not documented."""
    unknown = set(fields).symmetric_difference(BY_NAME[name].fields)
    if unknown:
        raise ValueError(f"event {name}: fields {sorted(unknown)} are missing or unknown")
    return {key: _safe(value) for key, value in fields.items()}


def _safe(value: object) -> object:
    if isinstance(value, str):
        return layout.escape(value)
    if isinstance(value, list | tuple):
        return [_safe(item) for item in value]
    return value


class LogAndStatusFile:
    """Events to the log, status to `status.json`."""

    def __init__(self, run: layout.RunPaths) -> None:
        self._run = run
        self._log = structlog.get_logger("s3sync_agent")

    def event(self, name: str, **fields: object) -> None:
        safe = checked(name, fields)
        # Whoever reads the log may be gone, or its disk full: nothing that is served depends on it.
        with contextlib.suppress(OSError):
            getattr(self._log, BY_NAME[name].level)(name, **safe)

    def status(self, status: Status) -> None:
        try:
            replace(self._run.status, msgspec.json.encode(status))
        except OSError as error:
            self.event("status.unwritable", path=str(self._run.status), reason=str(error.strerror))


def replace(path: Path, data: bytes) -> None:
    """Write a file of the run-time directory at once; it need not survive a reboot."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)  # somebody may have removed it
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def set_healthy(run: layout.RunPaths, release: str | None) -> None:
    """Let the balancer send requests (a release id), or not (None). Raises OSError."""
    failpoints.reach("healthy.before")
    if release is None:
        run.healthy.unlink(missing_ok=True)
    else:
        replace(run.healthy, release.encode() + b"\n")


def read_status(run: layout.RunPaths) -> Status | None:
    """The last status written, or None when there is none that can be read."""
    try:
        return msgspec.json.decode(run.status.read_bytes(), type=Status)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
