"""The daemon: one loop that owns all timers, and one worker for everything slow.

The loop never waits for S3, so an activation happens at its instant whatever a request is doing. All
that can wake it is a message in one queue; signal handlers only put one there.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

from s3sync_agent import __version__, memory
from s3sync_agent.bucket import Bucket
from s3sync_agent.clock import Clock
from s3sync_agent.countdown import Countdown
from s3sync_agent.counts import Counts
from s3sync_agent.drift import Watcher
from s3sync_agent.errors import ConfigError, S3SyncError
from s3sync_agent.heal import check_everything, check_touched
from s3sync_agent.heartbeats.sender import Heartbeats, Whereabouts
from s3sync_agent.instance import Instance, Stopped
from s3sync_agent.layout import FRAGMENTS
from s3sync_agent.metrics.exporters import Exporters
from s3sync_agent.notify import Notifier
from s3sync_agent.report import Counted, Reporter, Status, one_line
from s3sync_agent.settings import Settings
from s3sync_agent.sync import Sync
from s3sync_agent.ticker import Attempt, Course, Ticker
from s3sync_agent.webroot import Webroot
from s3sync_agent.worker import Worker

# The loop counts as stuck when one piece of work takes longer than every time-out and retry of a request.
STUCK_AFTER = 300.0
STOP_WITHIN = 1.5
# Ready is said when the first tick has ended, but no later than this: a boot does not wait for an S3 that
# hangs, and what is on the disk is served by nginx all the while.
READY_WITHIN = 10.0
# While a job runs, how often to look whether it has found an activation that lies ahead, and to tell.
LOOK_AHEAD = 1.0
# After an instant everything is looked at again within so many seconds: a fleet that has swapped at one
# moment must not ask S3 at one moment, too.
SPREAD = 1.0
# Changes come in bursts; look when it has been quiet for so long.
QUIET = 0.2
QUIET_AT_MOST = 2.0
# Where the kernel has not enough watches, everything is hashed this often, in seconds.
SCRUB_UNWATCHED = 3600.0
# Of that, the worker gets half; what it leaves is for the last heartbeat, but no more than a second.
STOP_WORKER_WITHIN = 0.8
LAST_HEARTBEAT_WITHIN = 1.0
# Beside STOP_WITHIN: who hands metrics over may hang, too, and is left behind.
STOP_METRICS_WITHIN = 0.1


class Wake(Enum):
    STOP = auto()
    RELOAD = auto()
    SYNC_NOW = auto()
    JOB_DONE = auto()
    PROVED = auto()
    TOUCHED = auto()
    OVERFLOWED = auto()


@dataclass(frozen=True, slots=True)
class Message:
    wake: Wake
    detail: Any = None


class Daemon:
    """`load_settings` is called for a reload; `open_bucket` for every new site."""

    def __init__(
        self,
        *,
        settings: Settings,
        load_settings: Callable[[], Settings],
        config_files: Callable[[], list[Path]],
        open_bucket: Callable[[Settings], Bucket],
        make_reporter: Callable[[Settings], Reporter],
        clock: Clock,
        notifier: Notifier,
        metadata: Whereabouts,
    ) -> None:
        self._load_settings = load_settings
        self._config_files = config_files
        self._open_bucket = open_bucket
        self._make_reporter = make_reporter
        self._clock = clock
        self._notifier = notifier
        self._queue: SimpleQueue[Message] = SimpleQueue()
        self._worker = Worker("worker", clock, lambda result: self._put(Wake.JOB_DONE, result))
        # Asks nginx before and after an instant, whatever the worker is doing.
        self._prober = Worker("prober", clock, lambda _: self._put(Wake.PROVED))
        self._proving = 0  # jobs that it has not ended
        self._watcher = Watcher(
            lambda _root, path: self._put(Wake.TOUCHED, path), lambda: self._put(Wake.OVERFLOWED)
        )
        self._config_watcher = Watcher(self._config_touched, lambda: None, recursive=False)
        self._ready = False
        self._ready_by = clock.monotonic() + READY_WITHIN
        self._looked_at = clock.monotonic()
        self._reload = False
        self._sync_now = False
        self._again_at = math.inf
        self._touched: set[str] = set()
        self._touched_at = math.inf
        self._look_at: float | None = None
        self._scrub = False
        self._unwatched: str | None = None
        self._exporters = Exporters(read=self._status, event=self._event)
        self._heartbeats = Heartbeats(event=self._event, metadata=metadata, clock=clock, chance=random.random)
        self._set_up(settings, Counts(), None)

    def _set_up(self, settings: Settings, counts: Counts, course: Course | None) -> None:
        """Everything that depends on the settings, but for what tells others: that goes on where it can. So
        does the course of ticks of the same site."""
        self._settings = settings
        self._reporter = Counted(self._make_reporter(settings), counts, told=self._told)
        self._instance = Instance(
            settings=settings,
            bucket=self._open_bucket(settings),
            webroot=Webroot(settings.state),
            clock=self._clock,
            reporter=self._reporter,
            beat=self._worker.beat,
        )
        self._sync = Sync(self._instance)
        self._ticker = Ticker(self._instance, self._sync, random.random, course)
        self._countdown = Countdown(self._sync, self._clock, self._ask_nginx, self._reporter.event)
        self._settled_on: str | None = None
        self._poll_at = self._clock.monotonic()
        self._scrub_at = self._poll_at + settings.scrub_interval

    def _told(self) -> None:
        """The status has changed; who waits for that has a thread of its own."""
        self._exporters.told()
        self._heartbeats.told()

    # Asked by the threads of the exporters, which outlive a ticker and a reporter.

    def _status(self) -> Status:
        return self._ticker.status()

    def _event(self, name: str, **fields: object) -> None:
        self._reporter.event(name, **fields)

    # ------------------------------------------------------------------------ the loop

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises AgentBusy, ConfigError before anything has begun; ConfigError
        also later, when the run directory is gone for good."""
        # Before anything else: these two would end a process that does not expect them.
        self._install_signals({signal.SIGHUP: Wake.RELOAD, signal.SIGUSR1: Wake.SYNC_NOW})
        self._start()
        self._install_signals({signal.SIGTERM: Wake.STOP, signal.SIGINT: Wake.STOP})
        self._worker.start()
        self._prober.start()
        self._apply_settings()
        self._watch_config()
        while True:
            message = self._next_message()
            if message is not None and message.wake is Wake.STOP:
                break
            if message is not None:
                self._handle(message)
            self._be_ready_in_time()
            self._look_ahead()
            if self._countdown.act():
                self._again_at = self._clock.monotonic() + random.random() * SPREAD  # noqa: S311 - it spreads requests
            self._give_work()
            if message is None or message.wake is Wake.JOB_DONE:
                self._tell_systemd()
        self._stop()

    def _start(self) -> None:
        swept = self._sync.start()
        self._reporter.event(
            "agent.started",
            version=__version__,
            site=self._settings.site.url,
            source=self._settings.source,
            identity=self._settings.identity,
            live=self._instance.webroot.live() or "",
        )
        if swept:
            self._reporter.event("agent.swept", count=len(swept), names=swept[:10])

    def _install_signals(self, meanings: dict[signal.Signals, Wake]) -> None:
        for number, wake in meanings.items():
            # SimpleQueue.put is reentrant: the only thing that is safe in a signal handler.
            signal.signal(number, partial(self._on_signal, wake))

    def _on_signal(self, wake: Wake, _number: int, _frame: FrameType | None) -> None:
        self._put(wake)

    def _put(self, wake: Wake, detail: object = None) -> None:
        self._queue.put(Message(wake, detail))

    def _next_message(self) -> Message | None:
        """The next message, or None when a timer is due first."""
        wait = max(0.0, min(self._deadlines()) - self._clock.monotonic())
        with contextlib.suppress(Empty):
            return self._queue.get(timeout=min(wait, 3600.0))
        return None

    def _deadlines(self) -> list[float]:
        now = self._clock.monotonic()
        deadlines = [now + (self._notifier.watchdog_seconds or 120.0) / 3]
        if self._worker.busy:
            deadlines.append(now + LOOK_AHEAD)
        else:
            deadlines += [self._poll_at, self._scrub_at, self._again_at]
            deadlines += [self._look_at] if self._look_at is not None else []
        wakes_in = self._countdown.wakes_in()
        return deadlines if wakes_in is None else [*deadlines, now + wakes_in]

    def _handle(self, message: Message) -> None:
        match message.wake:
            case Wake.JOB_DONE:
                self._worker.busy = False
                if isinstance(message.detail, Attempt):
                    self._note_attempt(message.detail)
                self._give_memory_back(message.detail)
            case Wake.PROVED:
                self._proving -= 1
                self._tell()
            case Wake.RELOAD:
                self._reload = True
            case Wake.SYNC_NOW:
                self._sync_now = True
            case Wake.TOUCHED:
                self._touched.add(message.detail)
                now = self._clock.monotonic()
                self._touched_at = min(self._touched_at, now)
                self._look_at = min(now + QUIET, self._touched_at + QUIET_AT_MOST)
            case Wake.OVERFLOWED:
                self._scrub = True
            case Wake.STOP:
                raise AssertionError("handled by the loop")

    def _note_attempt(self, attempt: Attempt) -> None:
        self._countdown.look(forget=True)
        self._poll_at = self._clock.monotonic() + attempt.next_in
        self._watch_served()
        self._be_ready()
        self._need_run_dir()

    def _need_run_dir(self) -> None:
        """Raises ConfigError when somebody has removed it and the sandbox does not let us make it: nobody can
        be told then that this instance is healthy. systemd makes it when it starts the service again."""
        run_dir = self._settings.run_dir
        if run_dir.is_dir():
            return
        try:
            run_dir.mkdir(mode=0o755, parents=True)
        except OSError as error:
            raise ConfigError(
                f"run directory {run_dir} is gone and cannot be made: {error.strerror}",
                hint="systemd makes it anew when it starts the service again, which it does by itself",
            ) from error

    def _be_ready_in_time(self) -> None:
        if self._clock.monotonic() >= self._ready_by:
            self._be_ready()

    def _be_ready(self) -> None:
        """Tell systemd, once, that the service is up: its loop runs and looks after what is on the disk."""
        if not self._ready:
            self._ready = True
            self._notifier.send("READY=1", self._status_line())

    def _give_memory_back(self, detail: object) -> None:
        """After work that grows with the site; an idle poll is none."""
        live = self._instance.webroot.live()
        if not isinstance(detail, Attempt) or live != self._settled_on:
            memory.give_back()
        self._settled_on = live

    def _look_ahead(self) -> None:
        """A tick may accept a pointer, stage what it names, and go on with something slow: the instant is
        kept all the same, and whoever asks is told; once a second, for staging brings a message for each
        asset."""
        if self._worker.busy:
            self._countdown.look(forget=False)
            now = self._clock.monotonic()
            if now - max(self._worker.given_at, self._looked_at) >= LOOK_AHEAD:
                self._tell()

    def _tell(self) -> None:
        self._looked_at = self._clock.monotonic()
        with contextlib.suppress(OSError):  # a state directory that cannot be read; the tick tells
            self._ticker.look()

    def _ask_nginx(self, job: Callable[[], object]) -> None:
        self._proving += 1
        self._prober.give(self._guarded(job))

    def _give_work(self) -> None:
        """Give an idle worker the most urgent job that is due."""
        now = self._clock.monotonic()
        if self._worker.busy:
            return
        if self._reload and not self._proving:  # who proves works with the settings it began with
            self._reload = False
            self._read_settings()
        if now >= min(self._poll_at, self._again_at) or self._sync_now:
            self._sync_now = False
            self._again_at = math.inf
            self._worker.give(self._ticker.attempt)
        elif self._scrub or now >= self._scrub_at:
            self._scrub = False
            self._scrub_at = now + self._settings.scrub_interval
            self._worker.give(self._guarded(self._scrub_all))
        elif self._look_at is not None and now >= self._look_at:
            touched, self._touched, self._look_at, self._touched_at = self._touched, set(), None, math.inf
            self._worker.give(self._guarded(lambda: check_touched(self._instance, touched)))

    def _scrub_all(self) -> None:
        """The pointer is looked at meanwhile: an instant is not missed for a scrub."""
        with self._sync.lookout.during():
            check_everything(self._instance, hashing=True)

    def _guarded(self, job: Callable[[], Any]) -> Callable[[], None]:
        """A job whose failure is an event and nothing more."""

        def run() -> None:
            try:
                job()
            except Stopped:
                raise
            except Exception as error:  # noqa: BLE001 - the worker must outlive a bug, and say it
                hint = error.hint if isinstance(error, S3SyncError) else ""
                self._reporter.event("tick.failed", error=type(error).__name__, message=str(error), hint=hint)
            finally:
                self._instance.webroot.drop_parsed()

        return run

    # ------------------------------------------------------------------------ watching

    def _watch_served(self) -> None:
        """Watch the live tree and the assets; where that is impossible, scrub instead."""
        live = self._instance.webroot.live()
        if self._settings.drift == "off" or live is None:
            self._watcher.stop()
            return
        if live == self._unwatched:  # it did not work for this tree; trying costs a walk through it
            self._scrub_at = min(self._scrub_at, self._clock.monotonic() + SCRUB_UNWATCHED)
            return
        try:
            self._watcher.watch((self._settings.state.release(live), self._settings.state.assets))
        except OSError as error:
            self._unwatched = live
            self._reporter.event("drift.unwatched", reason=error.strerror or str(error))

    def _watch_config(self) -> None:
        folders = {path.parent for path in self._config_files()}
        fragments = {folder / FRAGMENTS for folder in folders}  # none may lie there yet
        try:
            self._config_watcher.watch(tuple(sorted(folders | set(filter(Path.is_dir, fragments)))))
        except OSError as error:  # SIGHUP still works
            self._reporter.event("drift.unwatched", reason=f"configuration: {error.strerror}")

    def _config_touched(self, root: Path, path: str) -> None:
        """Reload, unless it is some other file that lies beside the configuration: our own log, say."""
        place = Path(path)
        fragment = place.suffix == ".toml" and place.parent in (Path(), Path(FRAGMENTS))
        if fragment or root / place in self._config_files():
            self._put(Wake.RELOAD)

    def _read_settings(self) -> None:
        """Take new settings; with faults in them the old ones stay in force."""
        try:
            settings = self._load_settings()
        except S3SyncError as error:
            self._reporter.event(
                "config.refused", error=type(error).__name__, message=str(error), hint=error.hint
            )
            return
        files = [str(path) for path in self._config_files()]
        changed = [
            name for name in settings.__slots__ if getattr(settings, name) != getattr(self._settings, name)
        ]
        if changed:
            self._change_settings(settings)
        self._reporter.event("config.loaded", files=files, changed=changed)
        self._poll_at = self._clock.monotonic()

    def _change_settings(self, settings: Settings) -> None:
        """Start over with other settings; where they cannot be started with, with the old ones."""
        old, course = self._settings, self._ticker.course
        self._watcher.stop()
        self._instance.webroot.close()
        try:
            same = settings.site == old.site
            self._set_up(settings, self._reporter.counts, course if same else None)
            self._sync.start()
        except S3SyncError as error:
            self._reporter.event(
                "config.refused", error=type(error).__name__, message=str(error), hint=error.hint
            )
            self._instance.webroot.close()
            self._set_up(old, self._reporter.counts, course)
            self._sync.start()
        self._apply_settings()

    def _apply_settings(self) -> None:
        """For the threads that tell others about this instance."""
        self._exporters.apply(self._settings)
        self._heartbeats.apply(self._settings, self._instance.bucket, self._ticker.status)

    # ------------------------------------------------------------------------- systemd

    def _tell_systemd(self) -> None:
        stuck = self._worker.busy and self._clock.monotonic() - self._worker.progress_at > STUCK_AFTER
        if not stuck:
            self._notifier.send("WATCHDOG=1", self._status_line())

    def _status_line(self) -> str:
        try:
            return "STATUS=" + one_line(self._ticker.status(), now=self._clock.now())
        except OSError as error:
            return f"STATUS=the state directory cannot be read: {error.strerror}"

    def _stop(self) -> None:
        """End within two seconds. What the worker was staging is swept at the next start."""
        self._notifier.send("STOPPING=1")
        self._watcher.stop()
        self._config_watcher.stop()
        self._prober.stop(0.0)
        until = self._clock.monotonic() + STOP_WITHIN
        stopped = self._worker.stop(STOP_WORKER_WITHIN)  # first: the last heartbeat tells what it has done
        said = self._heartbeats.stop(min(LAST_HEARTBEAT_WITHIN, until - self._clock.monotonic()))
        self._exporters.stop(STOP_METRICS_WITHIN)
        self._reporter.event("agent.stopped", live=self._instance.webroot.live() or "")
        if not stopped or not said:  # one waits for S3; nothing half can be served, and nobody waits for it
            os._exit(0)
        self._instance.webroot.close()
