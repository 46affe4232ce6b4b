"""Following the pointer: decide → stage → make ready → activate → prove → prune."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from functools import partial

from s3sync_agent.errors import HookUnusable, ReleaseError, S3SyncError, StagingError
from s3sync_agent.instance import Instance
from s3sync_agent.lookout import Lookout, Superseded
from s3sync_agent.machine import Decision, Due, Step, View, decide
from s3sync_agent.outcome import Outcome
from s3sync_agent.pointer import Document, ReleaseRef, parse_time
from s3sync_agent.prover import Prover, Serving
from s3sync_agent.prune import Pruner
from s3sync_agent.readiness import Readiness
from s3sync_agent.setbacks import Setbacks
from s3sync_agent.stage import stage_release


class PointerSync:
    """`tick` from one thread; what is about an activation that is due, from any."""

    def __init__(
        self,
        instance: Instance,
        *,
        setbacks: Setbacks,
        pruner: Pruner,
        prover: Prover,
        readiness: Readiness,
        lookout: Lookout,
    ) -> None:
        self._instance = instance
        self._setbacks = setbacks
        self._pruner = pruner
        self._prover = prover
        self._readiness = readiness
        self._lookout = lookout

    def tick(self, document: Document) -> Outcome:
        while True:
            try:
                return self._follow(document)
            except Superseded:
                document = self._instance.accepted() or document

    def _follow(self, document: Document) -> Outcome:
        """Bring the disk to what the pointer says. Raises Superseded when a newer one is more urgent."""
        setback: S3SyncError | None = None
        broken: set[str] = set()
        while True:
            named = document.pointer.named()
            self._setbacks.keep({ref.id for ref in named})
            self._readiness.keep({ref.promotion_id for ref in named})
            decision = self._serve(document, broken)
            ref = _next(decision)
            if ref is None:
                break
            try:
                with self._lookout.during(partial(self._is_superseded, ref, frozenset(broken))):
                    self._work_on(document, decision, ref)
            except (ReleaseError, StagingError, HookUnusable) as error:
                setback = setback or error
                broken.add(ref.id)
            document = self._instance.accepted() or document
        self._settle(document, decision, broken)
        self._pruner.prune({ref.id for ref in named})
        if setback is not None:
            raise setback
        return Outcome(wanted=decision.want.id if decision.want else None)

    def _is_superseded(self, ref: ReleaseRef, broken: Collection[str], newer: Document) -> bool:
        """Whether the newer pointer has something more urgent than to work on `ref`."""
        decision = decide(self._view(newer, broken))
        following = _next(decision)
        return decision.activate is not None or following is None or following.id != ref.id

    def _work_on(self, document: Document, decision: Decision, ref: ReleaseRef) -> None:
        """Stage `ref`, or make it ready."""
        if ref in decision.stage:
            protected = {named.id for named in document.pointer.named()}
            make_room = partial(self._pruner.make_room, protected)
            self._setbacks.unless_just_failed(ref.id, lambda: stage_release(self._instance, ref, make_room))
        else:
            # Where its instant lies ahead there is time to hash it all; who is late goes at once.
            hashing = decision.want != ref
            serving = Serving(ref.id, ref.promotion_id)
            self._setbacks.unless_just_failed(
                ref.id, lambda: self._readiness.make_ready(serving, hashing=hashing)
            )

    def serve_what_is_here(self, document: Document, *, proving: bool) -> None:
        """Serve what should be served as far as the disk has it, without S3. Raises StagingError.

        Who has no visitors yet does not get them without `proving`: what was accepted long ago may be long
        past.
        """
        while True:
            if proving:
                decision = self._serve(document, frozenset())
            else:
                decision = self._activate_wanted(document, frozenset())
            if decision.want is None or decision.want not in decision.check:
                return
            try:
                self._work_on(document, decision, decision.want)
            except (ReleaseError, HookUnusable):  # `stage.failed` has said it, and what failed first is told
                return

    def go_back_at_once(self, newer: Document) -> bool:
        """Serve what the newer pointer wants, if it was good here before: taking a release back does not wait
        for the hooks that are told of it. They go on all the same: False."""
        with self._instance.swap:
            ref = decide(self._view(newer, frozenset())).activate
            if ref is not None and ref.promotion_id in self._instance.memory.good:
                with contextlib.suppress(StagingError):  # the tick after this one meets it, too, and tells
                    self._activate_wanted(newer, frozenset())
        return False

    def _serve(self, document: Document, broken: Collection[str]) -> Decision:
        """Serve what should be served, and prove it; the decision that is left. A release that was taken
        back makes for another one."""
        while True:
            if decide(self._view(document, broken)).activate is not None:
                self._prover.look_before()
            decision = self._activate_wanted(document, broken)
            if not self._prove(document, decision):
                return decision

    def wanted(self) -> str | None:
        """The release that the accepted pointer wants served now; None without a pointer."""
        decision = self._decide()
        return decision.want.id if decision and decision.want else None

    def next_due(self) -> Due | None:
        """The activation that lies ahead, when its release is on disk; also one whose instant has come, and
        that has not happened yet."""
        document = self._instance.accepted()
        if document is None or document.pointer.active.activate_at is None:
            return None  # what nearly every pointer says; nothing to look up on the disk
        decision = self._decide()
        if decision is None:
            return None
        ref = decision.activate
        if ref is not None and ref.activate_at is not None:
            return Due(ref, parse_time(ref.activate_at))
        if decision.due is None:
            return None
        return decision.due if decision.due.ref.id in self._instance.webroot.complete() else None

    def _decide(self) -> Decision | None:
        """What the accepted pointer asks for now, without asking S3."""
        document = self._instance.accepted()
        return decide(self._view(document, frozenset())) if document is not None else None

    def arm_due(self, due: Due) -> None:
        """Do now what can be done before the instant. Raises StagingError."""
        if due.ref.promotion_id in self._readiness.promotions:
            self._prover.swapper.arm(due.ref.id)

    def activate_due(self) -> None:
        """Activate what has become due, if it still is what the pointer wants. Talks to nobody.

        Raises StagingError when the disk refuses.
        """
        with self._instance.swap:
            document = self._instance.accepted()
            if document is not None:
                self._activate_wanted(document, frozenset())

    def prove_due(self) -> None:
        """Ask the site how it answers after the instant, and act on it; slow. Raises StagingError."""
        document = self._instance.accepted()
        if document is not None:
            self._prove(document, decide(self._view(document, frozenset())))

    def _activate_wanted(self, document: Document, broken: Collection[str]) -> Decision:
        """Decide against the disk, and swap when the wanted release is there."""
        instance = self._instance
        with instance.swap:
            decision = decide(self._view(document, broken))
            ref = decision.activate
            if ref is not None:
                due = parse_time(ref.activate_at) if ref.activate_at else None
                self._prover.swapper.activate(ref.id, ref.promotion_id, due=due)
                decision = decide(self._view(document, broken))
            return decision

    def _prove(self, document: Document, decision: Decision) -> bool:
        """Whether what is served was taken back."""
        want = decision.want
        if want is None or want.id != self._instance.webroot.live():
            return False
        serving = Serving(want.id, want.promotion_id)
        return self._prover.prove(serving, lambda: self._back_from(document, serving))

    def _back_from(self, document: Document, serving: Serving) -> list[Serving]:
        """What may be served instead of `serving`: the baseline unless it is denied here, too, then the last
        good one."""
        webroot = self._instance.webroot
        baseline = document.pointer.baseline
        found = []
        if baseline is not None and baseline.promotion_id not in self._instance.denied():
            found.append(Serving(baseline.id, baseline.promotion_id))
        previous = webroot.previous()
        found += [Serving(previous, "")] if previous is not None else []
        known = webroot.complete() - {serving.release}
        return [other for other in found if other.release in known]

    def _view(self, document: Document, broken: Collection[str]) -> View:
        instance = self._instance
        return View(
            pointer=document.pointer,
            live=instance.webroot.live(),
            complete=instance.webroot.complete(),
            now=instance.clock.now(),
            identity=instance.settings.identity,
            # What was good here needs nobody's consent to come back: a bad release is being left for it.
            ready=self._readiness.promotions | frozenset(instance.memory.good),
            canary=instance.settings.canary,
            comparing=self._prover.comparing,
            denied=instance.denied(),
            broken=frozenset(broken),
        )

    def _settle(self, document: Document, decision: Decision, broken: Collection[str]) -> None:
        """End the tick in the state that the disk shows.

        An instance may have visitors with what it should serve, and with an older release where nobody could
        stage that one from what is in S3: how fresh it is, is another signal.
        """
        instance = self._instance
        live, want = instance.webroot.live(), decision.want
        if live is not None and (want is None or want.id in broken):
            self._prover.vouch(live)
        if self._is_ahead(decision.due.ref if decision.due else document.pointer.prepare):
            instance.step(Step.STAGED)
        elif live is None:
            if not decision.stage:
                instance.step(Step.WAIT)
        elif document.pointer.active.promotion_id in instance.denied():
            instance.step(Step.FALL_BACK)
        elif want is None or self._prover.is_proved(Serving(live, want.promotion_id)):
            instance.step(Step.SERVE)

    def _is_ahead(self, ref: ReleaseRef | None) -> bool:
        """Whether `ref` is ready and waits: staged, in the words of the promotion."""
        return ref is not None and self._readiness.is_staged(ref.promotion_id)

    def staged(self) -> tuple[ReleaseRef, ...]:
        """The releases that the accepted pointer names and that are here: hashed as a whole and their hooks
        asked, or found good when they were served."""
        document = self._instance.accepted()
        if document is None:
            return ()
        complete, good = self._instance.webroot.complete(), self._instance.memory.good
        return tuple(
            ref
            for ref in document.pointer.named()
            if ref.id in complete
            and (self._readiness.is_staged(ref.promotion_id) or ref.promotion_id in good)
        )


def _next(decision: Decision) -> ReleaseRef | None:
    """What to work on: what is wanted first, then what is here and only has to be made ready."""
    if decision.stage and decision.stage[0] == decision.want:
        return decision.want
    return next(iter(decision.check + decision.stage), None)
