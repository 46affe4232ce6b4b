"""Following bare files: what was seen in `current/` → stage → activate → prove → prune."""

from __future__ import annotations

from s3sync_agent.follow import Candidate, Held, Nothing, PlainSource, Unchanged, Unsettled
from s3sync_agent.instance import Instance
from s3sync_agent.machine import Step
from s3sync_agent.outcome import Outcome
from s3sync_agent.prover import Prover, Serving
from s3sync_agent.prune import Pruner
from s3sync_agent.readiness import Readiness
from s3sync_agent.setbacks import Setbacks
from s3sync_agent.stage import stage_plain
from s3sync_agent.webroot.state import PlainRelease

PlainSight = Candidate | Unsettled | Held | Unchanged | Nothing


class PlainSync:
    def __init__(
        self,
        instance: Instance,
        source: PlainSource,
        *,
        setbacks: Setbacks,
        pruner: Pruner,
        prover: Prover,
        readiness: Readiness,
    ) -> None:
        self._instance = instance
        self._source = source
        self._setbacks = setbacks
        self._pruner = pruner
        self._prover = prover
        self._readiness = readiness

    def tick(self, sight: PlainSight) -> Outcome:
        """Take what was seen in `current/`, or keep what is live."""
        instance = self._instance
        if isinstance(sight, Nothing):  # a new site, for which a pointer may come as well
            instance.step(Step.WAIT)
            return Outcome(wanted=None)
        if isinstance(sight, Unsettled):
            return self._keep(Step.WAIT, look_again=sight.seconds)
        if isinstance(sight, Held):
            return self._keep(Step.HOLD, held=sight.reason)
        release = self._stage_plain(sight) if isinstance(sight, Candidate) else sight.release
        if not self._serve_plain(release):
            nothing = instance.webroot.live() is None
            return self._keep(Step.WAIT if nothing else Step.FALL_BACK)
        self._pruner.prune({release})
        return Outcome(wanted=release, plain=True)

    def _serve_plain(self, release: str) -> bool:
        """Serve a release made from bare files, and prove it; whether this instance takes it. Raises
        StagingError, HookUnusable."""
        instance = self._instance
        serving = Serving(release, release)
        if instance.webroot.live() != release and release not in instance.denied():
            if release not in self._readiness.promotions:
                self._readiness.make_ready(serving, hashing=False)
            self._prover.look_before()
            with instance.swap:
                if release not in instance.denied():
                    self._prover.swapper.activate(release, release, due=None)
        if release in instance.denied() or self._prover.prove(serving, lambda: self._previous(release)):
            return False
        if self._prover.is_proved(serving):
            instance.step(Step.SERVE)
        return True

    def _previous(self, release: str) -> list[Serving]:
        previous = self._instance.webroot.previous()
        return [Serving(previous, previous)] if previous not in (None, release) else []

    def _stage_plain(self, sight: Candidate) -> str:
        live = self._instance.webroot.live()
        tree = sight.tree
        self._setbacks.keep({tree.fingerprint})
        release = self._setbacks.unless_just_failed(
            tree.fingerprint,
            lambda: stage_plain(
                self._instance,
                tree,
                version=sight.version,
                make_room=lambda: self._pruner.make_room({live} if live else set()),
                unchanged=lambda: self._source.confirm(tree),
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
        if step is not Step.WAIT or live is None:
            instance.step(step)
        if live is not None:
            self._prover.vouch(live)
        return Outcome(wanted=live, look_again=look_again, held=held, plain=True)
