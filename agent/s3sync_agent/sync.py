"""One tick: observe → decide → stage → activate → prune → report.

A tick that fails changes nothing that is served.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from s3sync_agent import layout
from s3sync_agent.errors import (
    ConfigError,
    DiskFull,
    PointerLost,
    ReleaseError,
    ReleaseRefused,
    S3SyncError,
    SourceChanged,
    StagingError,
)
from s3sync_agent.follow import Candidate, HasPointer, Held, Nothing, PlainSource, Unsettled, observe_pointer
from s3sync_agent.instance import Instance
from s3sync_agent.machine import Decision, Due, Step, View, decide
from s3sync_agent.pointer import Document, ReleaseRef, format_time, parse_time
from s3sync_agent.prune import Pruner
from s3sync_agent.report import set_healthy
from s3sync_agent.stage import stage_plain, stage_release, sync_assets
from s3sync_agent.webroot import disk_errors
from s3sync_agent.webroot.state import REMEMBERED, PlainRelease

# A release that could not be staged is tried again after this long, doubling up to the limit. The
# pointer is asked for all the while: a newer one is taken at once.
RETRY_FIRST, RETRY_LIMIT = 5.0, 60.0

Staged = TypeVar("Staged")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a tick ended. `wanted` is the release id that should be live; `look_again` seconds until
    `current/` may have settled; `held` why nothing is taken."""

    wanted: str | None
    look_again: float | None = None
    held: str = ""
    plain: bool = False


@dataclass(slots=True)
class Setback:
    """A release that could not be staged."""

    error: S3SyncError
    again_at: float
    delay: float


class Sync:
    """Runs ticks on one instance. `tick` from one thread; `activate_due` from any."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._plain = PlainSource(instance)
        self._setbacks: dict[str, Setback] = {}
        self._pruner = Pruner(instance)
        # When S3 answered the question of this tick, in unix seconds; the tick may go on for long.
        self.answered_at: float | None = None

    def start(self) -> list[str]:
        """Take the state directory over as it is found; returns what was swept.

        Raises AgentBusy, ConfigError, StagingError.
        """
        instance = self._instance
        instance.webroot.open()
        try:
            instance.settings.run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"run directory {instance.settings.run_dir} cannot be used: {error.strerror}",
                hint="run_dir must belong to the user the agent runs as, or be one that user can create",
            ) from error
        swept = instance.webroot.sweep()
        instance.memory = instance.webroot.state()
        self._pruner.start()
        with disk_errors("assets"):
            sync_assets(instance)
        if instance.webroot.live() is None:
            set_healthy(instance.settings.run, None)
        else:  # what was served when the agent ended is served still
            instance.step(Step.SERVE)
        return swept

    def tick(self) -> Outcome:
        """One pass. Raises S3SyncError; then nothing that is served has changed, or it has changed to
        what was wanted and something after it failed."""
        self.answered_at = None
        with disk_errors("the state directory"):
            self._instance.webroot.make_directories()
        if self._is_plain_site():
            return self._plain_tick()
        try:
            document = self._observe_pointer()
        except PointerLost:
            raise
        except S3SyncError:  # what was accepted stays in force, also what has become due meanwhile
            self.activate_due()
            raise
        self.answered_at = self._instance.clock.now()
        return self._plain_tick() if document is None else self._pointer_tick(document)

    def _observe_pointer(self) -> Document | None:
        """Where the disk is too full to remember a new pointer, old releases go first."""
        try:
            return observe_pointer(self._instance)
        except DiskFull:
            accepted = self._instance.accepted()
            self._pruner.make_room({ref.id for ref in accepted.pointer.named()} if accepted else set())
            return observe_pointer(self._instance)

    def _is_plain_site(self) -> bool:
        source = self._instance.settings.source
        return source == "plain" or (source == "auto" and self._instance.memory.plain is not None)

    # ------------------------------------------------------------------------- pointer

    def _pointer_tick(self, document: Document) -> Outcome:
        setback: S3SyncError | None = None
        broken: set[str] = set()
        named = {ref.id for ref in document.pointer.named()}
        self._setbacks = {id_: kept for id_, kept in self._setbacks.items() if id_ in named}
        while True:
            decision = self._activate_wanted(document, broken)
            if not decision.stage:
                break
            ref = decision.stage[0]
            try:
                self._stage(document, ref)
            except (ReleaseError, StagingError) as error:
                setback = setback or error
                broken.add(ref.id)
        self._settle(decision, broken)
        self._pruner.prune(named)
        if setback is not None:
            raise setback
        return Outcome(wanted=decision.want.id if decision.want else None)

    def wanted(self) -> str | None:
        """The release that the accepted pointer wants served now; None without a pointer."""
        decision = self._decide()
        return decision.want.id if decision and decision.want else None

    def next_due(self) -> Due | None:
        """The activation that lies ahead, when its release is on disk."""
        document = self._instance.accepted()
        if document is None or document.pointer.active.activate_at is None:
            return None  # what nearly every pointer says; nothing to look up on the disk
        decision = self._decide()
        if decision is None or decision.due is None:
            return None
        return decision.due if decision.due.ref.id in self._instance.webroot.complete() else None

    def _decide(self) -> Decision | None:
        """What the accepted pointer asks for now, without asking S3."""
        document = self._instance.accepted()
        if document is None or self._is_plain_site():
            return None
        return decide(self._view(document, frozenset()))

    def activate_due(self) -> None:
        """Activate what has become due, if it still is what the pointer wants. Talks to nobody.

        Raises StagingError when the disk refuses.
        """
        with self._instance.swap:
            document = self._instance.accepted()
            if document is not None and not self._is_plain_site():
                self._activate_wanted(document, frozenset())

    def _activate_wanted(self, document: Document, broken: Collection[str]) -> Decision:
        """Decide against the disk, and swap when the wanted release is there."""
        instance = self._instance
        with instance.swap:
            decision = decide(self._view(document, broken))
            if decision.activate is not None:
                self._activate(decision.activate.id, decision.activate)
                decision = decide(self._view(document, broken))
            return decision

    def _view(self, document: Document, broken: Collection[str]) -> View:
        instance = self._instance
        return View(
            pointer=document.pointer,
            live=instance.webroot.live(),
            complete=instance.webroot.complete(),
            now=instance.clock.now(),
            identity=instance.settings.identity,
            denied=frozenset(denial.promotion_id for denial in instance.memory.denied),
            broken=frozenset(broken),
        )

    def _stage(self, document: Document, ref: ReleaseRef) -> None:
        protected = {named.id for named in document.pointer.named()}
        self._unless_just_failed(
            ref.id, lambda: stage_release(self._instance, ref, lambda: self._pruner.make_room(protected))
        )

    def _unless_just_failed(self, release: str, stage: Callable[[], Staged]) -> Staged:
        """Stage something, or raise the error of the last try while it is too early for another."""
        clock = self._instance.clock
        before = self._setbacks.get(release)
        if before is not None and clock.monotonic() < before.again_at:
            raise before.error.with_traceback(None)
        try:
            staged = stage()
        except SourceChanged:  # nothing failed; what is there now is another tree
            raise
        except (ReleaseError, StagingError) as error:
            traceback.clear_frames(error.__traceback__)  # they hold the manifest, and the error is kept
            delay = min(RETRY_LIMIT, before.delay * 2) if before else RETRY_FIRST
            self._setbacks[release] = Setback(error, clock.monotonic() + delay, delay)
            if before is None or type(before.error) is not type(error):
                self._report_setback(release, error, delay)
            raise
        self._setbacks.pop(release, None)
        return staged

    def was_said(self, error: S3SyncError) -> bool:
        """Whether `stage.failed` has told about this error already."""
        return any(setback.error is error for setback in self._setbacks.values())

    def staged_refs(self) -> tuple[ReleaseRef, ...]:
        """What the pointer names and could go live here."""
        complete = self._instance.webroot.complete()
        return tuple(ref for ref in self._named() if ref.id in complete)

    def failures(self) -> tuple[tuple[ReleaseRef, S3SyncError], ...]:
        """What it names and could not be staged, though S3 answered."""
        setbacks = dict(self._setbacks)  # a tick may change it meanwhile
        return tuple((ref, setbacks[ref.id].error) for ref in self._named() if ref.id in setbacks)

    def _named(self) -> list[ReleaseRef]:
        """What the accepted pointer names, once for each promotion."""
        document = self._instance.accepted()
        refs = document.pointer.named() if document is not None and not self._is_plain_site() else ()
        return list({ref.promotion_id: ref for ref in refs}.values())

    def _report_setback(self, release: str, error: S3SyncError, delay: float) -> None:
        self._instance.reporter.event(
            "stage.failed",
            release=release,
            error=type(error).__name__,
            message=str(error),
            hint=error.hint,
            retry_in=delay,
        )

    def _settle(self, decision: Decision, broken: Collection[str]) -> None:
        """End the tick in the state that the disk shows.

        An instance is healthy with what it should serve, and with an older release where nobody could
        stage that one from what is in S3: how fresh it is, is another signal.
        """
        instance = self._instance
        live = instance.webroot.live()
        if decision.due is not None and decision.due.ref.id in instance.webroot.complete():
            instance.step(Step.STAGED)
        elif live is not None and (decision.want is None or decision.want.id == live):
            instance.step(Step.SERVE)
        elif live is None and not decision.stage:
            instance.step(Step.WAIT)
        if live is not None and decision.want is not None and decision.want.id == live:
            # A crash after the swap, or the same release promoted again: the link is right already.
            promotion = decision.want.promotion_id
            with instance.swap:
                instance.remember(serving_promotion=promotion, good=self._good_with(promotion))
            self._announce_healthy(live)
        elif live is not None and decision.want is not None and decision.want.id in broken:
            self._announce_healthy(live)

    # --------------------------------------------------------------------------- plain

    def _plain_tick(self) -> Outcome:
        instance = self._instance
        sight = self._plain.observe()
        self.answered_at = instance.clock.now()
        if isinstance(sight, HasPointer):
            document = observe_pointer(instance)
            if document is None:  # taken away between the two requests: a plain site after all
                raise SourceChanged("the pointer came and went", hint="it is looked for again")
            return self._pointer_tick(document)
        if isinstance(sight, Nothing):  # a new site, for which a pointer may come as well
            instance.step(Step.WAIT)
            return Outcome(wanted=None)
        if isinstance(sight, Unsettled):
            return self._keep(Step.WAIT, look_again=sight.seconds)
        if isinstance(sight, Held):
            return self._keep(Step.HOLD, held=sight.reason)
        if isinstance(sight, Candidate):
            release = self._stage_plain(sight)
        elif sight.release in instance.webroot.complete():
            release = sight.release
        else:  # somebody deleted the tree; what it was made from is still in S3
            with instance.swap:
                instance.remember(plain=None)
            return self._plain_tick()
        with instance.swap:
            if instance.webroot.live() != release:
                self._activate(release, None)
        instance.step(Step.SERVE)
        self._announce_healthy(release)
        self._pruner.prune({release})
        return Outcome(wanted=release, plain=True)

    def _stage_plain(self, sight: Candidate) -> str:
        live = self._instance.webroot.live()
        tree = sight.tree
        self._setbacks = {key: kept for key, kept in self._setbacks.items() if key == tree.fingerprint}
        release = self._unless_just_failed(
            tree.fingerprint,
            lambda: stage_plain(
                self._instance,
                tree,
                version=sight.version,
                make_room=lambda: self._pruner.make_room({live} if live else set()),
                unchanged=lambda: self._plain.confirm(tree),
            ),
        )
        with self._instance.swap:
            before = self._instance.memory.plain
            marker = sight.tree.marker or (before.marker if before else None)
            self._instance.remember(plain=PlainRelease(sight.tree.fingerprint, release, marker))
        return release

    def _keep(self, step: Step, *, look_again: float | None = None, held: str = "") -> Outcome:
        """Go on serving what is live."""
        instance = self._instance
        live = instance.webroot.live()
        if step is Step.HOLD or live is None:
            instance.step(step)
        if live is not None:
            self._announce_healthy(live)
        return Outcome(wanted=live, look_again=look_again, held=held, plain=True)

    # ----------------------------------------------------------------- swap and prune

    def _activate(self, release: str, ref: ReleaseRef | None) -> None:
        """Everything slow has happened before; this is one rename and what must be remembered of it."""
        instance = self._instance
        started = instance.clock.monotonic()
        before = instance.webroot.live()
        promotion = ref.promotion_id if ref else release
        instance.step(Step.ACTIVATE)
        good = before is not None and instance.memory.serving_promotion in instance.memory.good
        with disk_errors(release):
            instance.webroot.activate(release, previous=before if good else None)
            now = instance.clock.now()
            retired = {k: v for k, v in instance.memory.retired.items() if k != release}
            if before is not None:
                retired[before] = now
            instance.remember(
                serving_promotion=promotion,
                serving_since=now,
                good=self._good_with(promotion),
                retired=retired,
            )
        due = parse_time(ref.activate_at) if ref and ref.activate_at else now
        instance.reporter.event(
            "activate.done",
            release=release,
            before=before or "",
            at=format_time(now),
            late=round(max(0.0, now - due), 4),
            seconds=round(instance.clock.monotonic() - started, 4),
        )

    def _good_with(self, promotion: str) -> tuple[str, ...]:
        """The good promotions, newest first, with this one in front."""
        return (promotion, *(p for p in self._instance.memory.good if p != promotion))[:REMEMBERED]

    def _announce_healthy(self, release: str) -> None:
        run = self._instance.settings.run
        try:
            current = run.healthy.read_text().strip()
        except OSError:
            current = ""
        if current != release:
            with disk_errors("healthy"):
                set_healthy(run, release)


def held_error(outcome: Outcome, site: layout.Site) -> ReleaseRefused:
    """What `run --once` ends with when `current/` is held, or does not settle."""
    return ReleaseRefused(
        f"{site.url}: {outcome.held or 'current/ went on changing'}",
        hint="push the whole release, or write current/.s3sync/complete last to say that it is whole",
    )
