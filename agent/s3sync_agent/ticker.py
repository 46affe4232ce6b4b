"""Ticks in a row: what failed, since when, how long until the next, and what to tell about it."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from s3sync_agent import __version__, layout
from s3sync_agent.clock import Clock
from s3sync_agent.errors import PointerLost, S3SyncError, StoreError
from s3sync_agent.heal import check_everything
from s3sync_agent.heartbeat import Denied, Failed, Staged
from s3sync_agent.instance import Instance, Stopped
from s3sync_agent.machine import State
from s3sync_agent.outcome import Outcome
from s3sync_agent.pointer import ReleaseRef, format_time
from s3sync_agent.report import Problem, Status, timeless
from s3sync_agent.sync import Sync

BACKOFF_LIMIT = 60.0
JITTER = 0.1
STALE_AFTER = 3
CLOCK_TOLERANCE = 2.0
CLOCK_POLLS = 3
DATE_STEP = 1.0  # S3 tells its time in whole seconds
STATUS_EVERY = 60.0
# Without a pointer to go by, a good tree on disk may be served after this long: no outage and nothing that
# is wrong in S3 must keep a rebooted instance out of the balancer.
SERVE_WITHOUT_S3_AFTER = 60.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One tick, however it ended. `next_in` is seconds until the next poll."""

    outcome: Outcome | None
    error: S3SyncError | None
    next_in: float


@dataclass(slots=True)
class Course:
    """What the ticks have brought so far. `polled_at` and `next_poll_at` are unix seconds, the other moments
    are monotonic.

    Outlives a change of settings as long as the site is the same: how far behind an instance is must not
    begin anew because somebody edited a file.
    """

    started: float
    failures: int = 0
    failing_since: float = 0.0
    polled_at: float = 0.0
    next_poll_at: float = 0.0
    wanted: str | None = None
    behind_since: float | None = None
    outcome: Outcome | None = None
    problem: Problem | None = None
    clock_offset: float = 0.0
    times_off: int = 0


class Ticker:
    """`chance` returns a number in [0, 1). `course` is that of a ticker before, to go on with."""

    def __init__(
        self, instance: Instance, sync: Sync, chance: Callable[[], float], course: Course | None = None
    ) -> None:
        self.course = course or Course(instance.clock.monotonic())
        self._instance = instance
        self._sync = sync
        self._chance = chance
        self._checked = False
        self._ticking = False
        self._written: tuple[float, Status] | None = None
        self._telling = threading.RLock()

    def attempt(self) -> Attempt:
        """Run one tick and report how it went. Raises only Stopped."""
        try:
            return self._attempt()
        except Stopped:
            raise
        except Exception as failure:  # noqa: BLE001 - bookkeeping failed (run_dir full, say); go on, and say it
            error = failure if isinstance(failure, S3SyncError) else _unexpected(failure)
            self._note_problem(error, BACKOFF_LIMIT)
            self._note_next(BACKOFF_LIMIT)
            return Attempt(None, error, BACKOFF_LIMIT)
        finally:
            self._instance.webroot.drop_parsed()

    def _attempt(self) -> Attempt:
        error: S3SyncError | None = None
        outcome: Outcome | None = None
        self._ticking = True
        try:
            outcome = self._sync.tick()
            self._check_once()
        except Stopped:
            raise
        except S3SyncError as expected:
            error = expected
        except Exception as unexpected:  # noqa: BLE001 - the loop must outlive a bug, and say it
            error = _unexpected(unexpected)
        finally:
            self._ticking = False
        self._instance.reporter.polled(failed=self._is_poll_failure(error))
        if _no_answer(error):
            self._note_no_answer()
        else:
            self._note_answer()
        if self._is_poll_failure(error):
            self._do_without_pointer()
        next_in = self._next_in(outcome, error)
        self._note(outcome, error, next_in)
        self._note_next(next_in)
        self.write_status()
        return Attempt(outcome, error, next_in)

    def _check_once(self) -> None:
        """After a restart: is what was served meanwhile still what it should be?"""
        if not self._checked and self._instance.settings.drift != "off":
            check_everything(self._instance, hashing=False)
        self._checked = True

    # ------------------------------------------------------------------------ failures

    def _note_no_answer(self) -> None:
        clock = self._instance.clock
        self.course.failures += 1
        if self.course.failures == 1:
            self.course.failing_since = clock.monotonic()

    def _do_without_pointer(self) -> None:
        """Whether S3 is silent, or the pointer there is gone or no good: what is here gets its visitors."""
        waited = self._instance.clock.monotonic() - self.course.started >= SERVE_WITHOUT_S3_AFTER
        if waited and not self._instance.settings.run.healthy.exists():
            self._sync.prove_what_is_here()

    def _note_answer(self) -> None:
        clock = self._instance.clock
        self.course.polled_at = clock.now()
        if self.course.failures:
            self._instance.reporter.event(
                "poll.recovered",
                failures=self.course.failures,
                seconds=round(clock.monotonic() - self.course.failing_since, 1),
            )
        self.course.failures = 0
        self._note_clock()

    def _note_clock(self) -> None:
        """Three polls in a row, because the Date of one slow answer is as old as the answer was slow."""
        clock = self._instance.clock
        server_time = self._instance.bucket.server_time()
        offset = round(server_time - clock.now(), 1) if server_time is not None else 0.0
        if self.course.clock_offset and abs(offset - self.course.clock_offset) <= DATE_STEP:
            offset = self.course.clock_offset  # the same as before, as far as whole seconds can tell
        self.course.times_off = self.course.times_off + 1 if abs(offset) > CLOCK_TOLERANCE else 0
        offset = offset if self.course.times_off >= CLOCK_POLLS else 0.0
        if offset and not self.course.clock_offset:
            self._instance.reporter.event("clock.off", seconds=offset)
        self.course.clock_offset = offset

    def _next_in(self, outcome: Outcome | None, error: S3SyncError | None) -> float:
        """Seconds until the next poll: the interval with jitter, longer while S3 does not answer."""
        settings = self._instance.settings
        interval = self._interval(outcome or self.course.outcome)
        if _no_answer(error):
            doubled = settings.poll_interval * float(2 ** min(self.course.failures - 1, 10))
            return min(BACKOFF_LIMIT, doubled) * (0.5 + self._chance() / 2)
        if outcome is not None and outcome.look_again is not None:
            return min(interval, max(0.1, outcome.look_again))
        return interval * (1 - JITTER + 2 * JITTER * self._chance())

    def _interval(self, known: Outcome | None) -> float:
        settings = self._instance.settings
        plain = known.plain if known else settings.source == "plain"
        return settings.plain_interval if plain else settings.poll_interval

    def _note_next(self, next_in: float) -> None:
        self.course.next_poll_at = self._instance.clock.now() + next_in

    def _note(self, outcome: Outcome | None, error: S3SyncError | None, next_in: float) -> None:
        """Say what is new about it, once."""
        held_before = self.course.outcome.held if self.course.outcome else ""
        if outcome is not None:
            self.course.outcome = outcome
            if outcome.held and outcome.held != held_before:
                self._instance.reporter.event("plain.held", reason=outcome.held)
        with self._telling:
            self._note_wanted(outcome.wanted if outcome else self._sync.wanted() or self.course.wanted)
        self._note_problem(error, next_in)

    def _note_wanted(self, wanted: str | None) -> None:
        """Since when is something else served than should be?"""
        self.course.wanted = wanted
        if wanted is None or wanted == self._instance.webroot.live():
            self.course.behind_since = None
        elif self.course.behind_since is None:
            self.course.behind_since = self._instance.clock.monotonic()

    def _note_problem(self, error: S3SyncError | None, next_in: float) -> None:
        if error is None:
            self.course.problem = None
            return
        problem = Problem(type(error).__name__, str(error), error.hint)
        if problem != self.course.problem:
            self._report(problem, error, next_in)
        self.course.problem = problem

    def _report(self, problem: Problem, error: S3SyncError, next_in: float) -> None:
        fields = {"error": problem.error, "message": problem.message, "hint": problem.hint}
        if type(error) is S3SyncError:
            self._instance.reporter.event("tick.failed", **fields)
        elif self._is_poll_failure(error):
            self._instance.reporter.event("poll.failed", **fields, retry_in=round(next_in, 1))

    def _is_poll_failure(self, error: S3SyncError | None) -> bool:
        """Whether this is the poll's own failure: no defect, and not that of a stage, which is said there."""
        return error is not None and type(error) is not S3SyncError and not self._sync.was_said(error)

    # -------------------------------------------------------------------------- status

    def status(self) -> Status:
        """How this instance is, now."""
        instance, course = self._instance, self.course
        settings, memory = instance.settings, instance.memory
        document = instance.accepted()
        due = self._sync.next_due()
        live = instance.webroot.live()
        promotion = memory.serving_promotion if live else ""
        behind_since = course.behind_since  # once: several threads ask
        answered_at = self._sync.answered_at if self._ticking else None
        # In a tick that has got its answer the outage before is over, however long the rest takes.
        over = course.failures > 0 and answered_at is not None
        problem = None if over else course.problem
        polled_at = answered_at or course.polled_at
        return Status(
            version=__version__,
            pid=os.getpid(),
            site=settings.site.url,
            identity=settings.identity,
            source=settings.source,
            state=instance.state.value,
            stale=course.failures >= STALE_AFTER and not over,
            serving=live or "",
            serving_since=format_time(memory.serving_since) if memory.serving_since else "",
            wanted=course.wanted or "",
            behind_seconds=_since(behind_since, instance.clock),
            because=self._because(problem),
            sequence=document.pointer.sequence if document else 0,
            staged=tuple(sorted(instance.webroot.complete())),
            polled_at=format_time(polled_at) if polled_at else "",
            activate_at=format_time(due.at) if due else "",
            clock_offset=course.clock_offset,
            problem=problem,
            healthy=settings.run.healthy.exists(),
            promotion_id=promotion,
            good=promotion in memory.good,
            ready=tuple(dict.fromkeys(map(_staged, self._sync.staged()))),
            denied=tuple(Denied(promotion_id=d.promotion_id, reason=d.reason) for d in memory.denied),
            failed=self._failed(document.pointer.named() if document else ()),
            next_poll_at=format_time(course.next_poll_at) if course.next_poll_at else "",
            poll_interval=self._interval(course.outcome),
            counts=instance.reporter.counts,
        )

    def _failed(self, named: Iterable[ReleaseRef]) -> tuple[Failed, ...]:
        """Which of them could not be staged, or made ready, once for each promotion."""
        errors = self._sync.failures()
        found = (_failure(ref, errors[ref.id]) for ref in named if ref.id in errors)
        return tuple(dict.fromkeys(found))

    def _because(self, problem: Problem | None) -> str:
        outcome = self.course.outcome
        if problem is not None:
            return problem.message
        if self._instance.state is State.STAGING:
            return "it is being staged"
        if outcome is None:
            return "the first poll has not ended"
        if outcome.held:
            return outcome.held
        if outcome.look_again is not None:
            return "current/ has not settled yet"
        unproved = self._sync.unproved()
        if unproved:
            return unproved
        denial = self._instance.denial()
        if denial is not None:
            return f"it denies promotion {denial.promotion_id}: {denial.reason}"
        due = self._sync.next_due()
        return f"{due.ref.version} goes live at {format_time(due.at)}" if due else ""

    def look(self) -> None:
        """Tell what a tick that goes on has brought so far: an accepted pointer is news long before its
        release is here. For another thread than that of the tick."""
        with self._telling:
            wanted = self._sync.wanted()
            if wanted is not None:
                self._note_wanted(wanted)
            self.write_status()

    def write_status(self) -> None:
        """Write status.json when it says something new, and once a minute: an idle poll writes nothing."""
        with self._telling:  # never an older one over a newer one
            status = self.status()
            told = timeless(status)
            now = self._instance.clock.monotonic()
            if self._written is not None:
                at, before = self._written
                if before == told and now - at < STATUS_EVERY:
                    return
            self._written = (now, told)
            self._instance.reporter.status(status)


def _staged(ref: ReleaseRef) -> Staged:
    return Staged(version=ref.version, manifest_sha256=ref.manifest_sha256, promotion_id=ref.promotion_id)


def _failure(ref: ReleaseRef, error: S3SyncError) -> Failed:
    return Failed(
        promotion_id=ref.promotion_id,
        release=ref.id,
        error=type(error).__name__,
        message=str(error),
        hint=error.hint,
    )


def _since(moment: float | None, clock: Clock) -> float:
    """Seconds since a moment of the monotonic clock; 0 without one."""
    return 0.0 if moment is None else round(clock.monotonic() - moment, 1)


def _no_answer(error: S3SyncError | None) -> bool:
    """Whether S3 did not tell; that the pointer is gone is an answer."""
    return isinstance(error, StoreError) and not isinstance(error, PointerLost)


def _unexpected(error: Exception) -> S3SyncError:
    """A bug, as something that can be reported like the rest."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return S3SyncError(
        f"{type(error).__name__}: {layout.escape(str(error))} ({where.name}, line {where.lineno})",
        hint="this is a defect of s3sync-agent; please report it with the log lines before it",
    )
