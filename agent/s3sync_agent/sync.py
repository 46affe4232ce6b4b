"""One tick: observe → decide → stage → activate → prune → report.

A tick that fails changes nothing that is served.
"""

from __future__ import annotations

from s3sync_agent import layout
from s3sync_agent.errors import ConfigError, DiskFull, PointerLost, ReleaseRefused, S3SyncError, SourceChanged
from s3sync_agent.follow import HasPointer, PlainSource, Unchanged, observe_pointer
from s3sync_agent.instance import Instance
from s3sync_agent.lookout import Lookout
from s3sync_agent.machine import Due, Step
from s3sync_agent.outcome import Outcome
from s3sync_agent.plain_sync import PlainSync
from s3sync_agent.pointer import Document, ReleaseRef
from s3sync_agent.pointer_sync import PointerSync
from s3sync_agent.prover import Prover
from s3sync_agent.prune import Pruner
from s3sync_agent.readiness import Readiness
from s3sync_agent.report import set_healthy
from s3sync_agent.setbacks import Setbacks
from s3sync_agent.stage import sync_assets
from s3sync_agent.swapper import Swapper
from s3sync_agent.webroot import disk_errors


class Sync:
    """Runs ticks on one instance. `tick` from one thread; what is about an activation that is due, from
    any."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._source = PlainSource(instance)
        self._setbacks = Setbacks(instance)
        self._pruner = Pruner(instance)
        self._prover = Prover(instance, Swapper(instance))
        self.lookout = Lookout(instance)
        readiness = Readiness(instance)
        self._plain = PlainSync(
            instance,
            self._source,
            setbacks=self._setbacks,
            pruner=self._pruner,
            prover=self._prover,
            readiness=readiness,
        )
        self._pointer = PointerSync(
            instance,
            setbacks=self._setbacks,
            pruner=self._pruner,
            prover=self._prover,
            readiness=readiness,
            lookout=self.lookout,
        )

    @property
    def answered_at(self) -> float | None:
        """When S3 answered last in this tick, in unix seconds; the tick may go on for long."""
        return self.lookout.answered_at

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
        instance.memory = instance.webroot.state().about(instance.webroot.live())
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
        try:
            outcome = self._tick()
            self._instance.save_noted()
            return outcome
        finally:
            with self.lookout.during(self._pointer.go_back_at_once):
                self._prover.tell_hooks()

    def _tick(self) -> Outcome:
        self.lookout.answered_at = None
        with disk_errors("the state directory"):
            self._instance.webroot.make_directories()
        if self._instance.is_plain_site():
            return self._plain_tick()
        try:
            document = self._observe_pointer()
        except PointerLost:
            raise
        except S3SyncError:  # what was accepted stays in force, also what has become due meanwhile
            accepted = self._instance.accepted()
            if accepted is not None:
                proving = self._prover.vouched_for() != ""
                self._pointer.serve_what_is_here(accepted, proving=proving)
            raise
        self.lookout.answered_at = self._instance.clock.now()
        return self._plain_tick() if document is None else self._pointer.tick(document)

    def _plain_tick(self) -> Outcome:
        sight = self._source.observe()
        self.lookout.answered_at = self._instance.clock.now()
        if isinstance(sight, HasPointer):
            document = observe_pointer(self._instance)
            if document is None:  # taken away between the two requests: a plain site after all
                raise SourceChanged("the pointer came and went", hint="it is looked for again")
            return self._pointer.tick(document)
        if isinstance(sight, Unchanged) and sight.release not in self._instance.webroot.complete():
            # Somebody deleted the tree; what it was made from is still in S3.
            with self._instance.swap:
                self._instance.remember(plain=None)
            return self._plain_tick()
        return self._plain.tick(sight)

    def _observe_pointer(self) -> Document | None:
        """Where the disk is too full to remember a new pointer, old releases go first."""
        try:
            return observe_pointer(self._instance)
        except DiskFull:
            accepted = self._instance.accepted()
            self._pruner.make_room({ref.id for ref in accepted.pointer.named()} if accepted else set())
            return observe_pointer(self._instance)

    def prove_what_is_here(self) -> None:
        """Go by what was accepted, and let this instance have visitors when the site answers rightly. Raises
        StagingError."""
        instance = self._instance
        accepted = None if self._instance.is_plain_site() else instance.accepted()
        if accepted is not None:
            self._pointer.serve_what_is_here(accepted, proving=True)
        live = instance.webroot.live()
        if live is not None and live in instance.webroot.complete():
            self._prover.vouch(live)

    # ---------------------------------------------------------- what the loop and others ask

    def wanted(self) -> str | None:
        """The release that the accepted pointer wants served now; None without a pointer."""
        return None if self._instance.is_plain_site() else self._pointer.wanted()

    def next_due(self) -> Due | None:
        """The activation that lies ahead, when its release is on disk."""
        return None if self._instance.is_plain_site() else self._pointer.next_due()

    def arm_due(self, due: Due) -> None:
        """Do now what can be done before the instant. Raises StagingError."""
        self._pointer.arm_due(due)

    def look_before_due(self) -> None:
        """Ask the site how it answers before the instant; slow."""
        self._prover.look_before()

    def activate_due(self) -> None:
        """Activate what has become due, if it still is what the pointer wants. Talks to nobody.

        Raises StagingError when the disk refuses.
        """
        if not self._instance.is_plain_site():
            self._pointer.activate_due()

    def prove_due(self) -> None:
        """Ask the site how it answers after the instant, and act on it; slow. Raises StagingError."""
        if not self._instance.is_plain_site():
            self._pointer.prove_due()

    def staged(self) -> tuple[ReleaseRef, ...]:
        """The releases that the pointer names and that are here as a promotion needs them."""
        return () if self._instance.is_plain_site() else self._pointer.staged()

    def failures(self) -> dict[str, S3SyncError]:
        """What could not be staged, by release id."""
        return self._setbacks.errors()

    def was_said(self, error: S3SyncError) -> bool:
        """Whether `stage.failed` has told about this error already."""
        return self._setbacks.was_said(error)

    def unproved(self) -> str:
        """Why what is live was not found good; "" when it was."""
        return self._prover.why_not()


def held_error(outcome: Outcome, site: layout.Site) -> ReleaseRefused:
    """What `run --once` ends with when `current/` is held, or does not settle."""
    return ReleaseRefused(
        f"{site.url}: {outcome.held or 'current/ went on changing'}",
        hint="push the whole release, or write current/.s3sync/complete last to say that it is whole",
    )
