"""Proving what is live: a release is good once the probe has found it so, and is taken back when it is not.

No answer is never a release's fault. A wrong answer is only when the same question was answered rightly with
another release: before the swap, or, where nobody had asked then, with the release to go back to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from s3sync_agent.hooks import Subject
from s3sync_agent.instance import Instance
from s3sync_agent.layout import version_of
from s3sync_agent.machine import Step
from s3sync_agent.probe import PASSED, Kind, Verdict
from s3sync_agent.report import set_healthy
from s3sync_agent.swapper import Swapper
from s3sync_agent.webroot import disk_errors
from s3sync_agent.webroot.state import REMEMBERED

# For how long an answer says how the site answered before a swap; seconds. Afterwards something else may have
# happened to it, and only a comparison tells.
FRESH = 10.0
# How often a release is compared with another when that one is not answered.
COMPARISONS = 3


@dataclass(frozen=True, slots=True)
class Serving:
    """A release under a promotion; that of a plain release is called as the release is."""

    release: str
    promotion: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What was said of the site while `release` was live, at the monotonic moment `at`."""

    release: str
    verdict: Verdict
    at: float


class Prover:
    """Any thread; one at a time does the proving."""

    def __init__(self, instance: Instance, swapper: Swapper) -> None:
        self._instance = instance
        self.swapper = swapper
        self._one_at_a_time = threading.Lock()
        self._before: Answered | None = None
        # The promotion that was compared with another release last, and how often.
        self._compared: tuple[str, int] = ("", 0)
        self._failing: tuple[Serving, Verdict] | None = None
        self._untold: Serving | None = None
        # Promotions that nobody may activate just now: their release is being compared with another.
        self.comparing: frozenset[str] = frozenset()

    def look_before(self) -> None:
        """Ask the site as it is, so that a wrong answer after the swap can be told from one before."""
        live = self._instance.webroot.live()
        if live is not None and self._instance.probe is not None:
            verdict = self._ask()
            if self._instance.webroot.live() == live:  # otherwise nobody knows which release answered
                self._before = Answered(live, verdict, self._instance.clock.monotonic())

    def is_proved(self, serving: Serving) -> bool:
        """Whether it was found good, and the balancer was told. No requests, nothing written."""
        memory = self._instance.memory
        found = serving.promotion in memory.good and serving.promotion == memory.serving_promotion
        return found and self.vouched_for() == serving.release

    def why_not(self) -> str:
        """Why what is live was not found good; "" when it was, or nobody has asked yet."""
        failing = self._failing
        if failing is None or failing[0].release != self._instance.webroot.live():
            return ""
        what = "got no answer" if failing[1].kind is Kind.UNANSWERED else "went wrong"
        return f"the probe {what}: {failing[1].reason}"

    def prove(self, serving: Serving, back_to: Callable[[], Sequence[Serving]]) -> bool:
        """Ask about `serving`, when it is live and not proved yet; whether it was taken back and denied.

        `back_to` are the releases to go back to, the best first. Raises StagingError when the disk refuses.
        """
        if self.is_proved(serving) or self._instance.webroot.live() != serving.release:
            return False
        with self._one_at_a_time:
            if self.is_proved(serving):
                return False
            verdict = self._ask()
            if verdict.kind is not Kind.PASSED:
                self._tell(serving, verdict)
                return verdict.kind is Kind.WRONG and self._judge(serving, verdict, back_to())
            self._found_good(serving)
        return False

    def vouch(self, release: str) -> None:
        """Tell the balancer that this instance may have visitors with `release`, which is live though it is
        not what is wanted, or nothing is. Only when the site answers rightly."""
        if self.vouched_for() != release and self._ask().kind is Kind.PASSED:
            self._set_healthy(release)

    # ------------------------------------------------------------------------- verdicts

    def _ask(self) -> Verdict:
        return PASSED if self._instance.probe is None else self._instance.probe()

    def _tell(self, serving: Serving, verdict: Verdict) -> None:
        """Once for each kind of failure, not at every try."""
        before, self._failing = self._failing, (serving, verdict)
        if before is None or (before[0], before[1].kind) != (serving, verdict.kind):
            self._instance.reporter.event(
                "probe.failed", release=serving.release, verdict=verdict.kind.value, reason=verdict.reason
            )

    def _found_good(self, serving: Serving) -> None:
        """Remember it, and what the hooks have yet to be told of it."""
        instance = self._instance
        with instance.swap:
            if instance.webroot.live() != serving.release:
                return
            good = instance.memory.good
            rest = (promotion for promotion in good if promotion != serving.promotion)
            instance.remember(
                serving=serving.release,
                serving_promotion=serving.promotion,
                good=(serving.promotion, *rest)[:REMEMBERED],
            )
            if serving.promotion not in good:
                self._untold = serving
            self._set_healthy(serving.release)
        if self._failing is not None:
            self._failing = None
            instance.reporter.event("probe.recovered", release=serving.release)

    def _judge(self, serving: Serving, verdict: Verdict, back_to: Sequence[Serving]) -> bool:
        """Whose fault a wrong answer is; whether the release was taken back for it."""
        before = self._asked_before()
        if before is Kind.PASSED:
            return self._fall_back(serving, verdict, back_to[0] if back_to else None)
        if before is Kind.WRONG:
            return False  # it was wrong with the release before, too
        times = self._compared[1] if self._compared[0] == serving.promotion else 0
        if not back_to or times >= COMPARISONS:
            return False
        self._compared = (serving.promotion, times + 1)
        return self._compare(serving, verdict, back_to[0])

    def _asked_before(self) -> Kind | None:
        """How the release was answered that was left for this one; None when nobody asked lately."""
        before = self._before
        if before is None or before.release != self.swapper.left:
            return None
        age = self._instance.clock.monotonic() - before.at
        return before.verdict.kind if age <= FRESH else None

    def _compare(self, serving: Serving, verdict: Verdict, other: Serving) -> bool:
        """Ask about the release to go back to. Right there: it is this release's fault. Otherwise it is not,
        and this one is served again."""
        self.comparing = frozenset({serving.promotion})
        try:
            seconds = self._go_back(serving, other)
            if seconds is None:
                return False
            found = self._ask().kind
            if found is Kind.PASSED:
                self._deny(serving, verdict)
                self._fell_back(serving, verdict, other, seconds)
                return True
            if found is Kind.WRONG:
                self._compared = (serving.promotion, COMPARISONS)
            self._go_back(other, serving)
            return False
        finally:
            self.comparing = frozenset()

    def _fall_back(self, serving: Serving, verdict: Verdict, other: Serving | None) -> bool:
        """Denied before it is left: whoever is killed in between must not show it again."""
        with self._instance.swap:  # nobody may decide in between: it would be activated once more
            if self._instance.webroot.live() != serving.release:
                return False
            self._deny(serving, verdict)
            seconds = self._go_back(serving, other) if other is not None else None
            if other is None or seconds is None:  # nothing else is here; that it is bad was said all the same
                return False
            self._fell_back(serving, verdict, other, seconds)
        return True

    def _go_back(self, serving: Serving, other: Serving) -> float | None:
        """Serve `other` instead, if `serving` is live still and `other` is here; for how long it was live."""
        webroot = self._instance.webroot
        with self._instance.swap:
            if webroot.live() != serving.release or other.release not in webroot.complete():
                return None
            return self.swapper.go_back(other.release, other.promotion)

    def _deny(self, serving: Serving, verdict: Verdict) -> None:
        reason = f"the probe went wrong: {verdict.reason}"
        self._instance.deny(serving.promotion, serving.release, reason)

    def _fell_back(self, serving: Serving, verdict: Verdict, other: Serving, seconds: float) -> None:
        instance = self._instance
        instance.step(Step.FALL_BACK)
        self._set_healthy(other.release)
        instance.reporter.event(
            "fallback.done",
            release=other.release,
            before=serving.release,
            promotion_id=serving.promotion,
            reason=verdict.reason,
            seconds=round(seconds, 3),
        )

    # --------------------------------------------------------------------------- others

    def tell_hooks(self) -> None:
        """Run the post-activate hooks of what was found good since they were last run; slow."""
        serving, self._untold = self._untold, None
        instance = self._instance
        if serving is not None and instance.hooks is not None:
            instance.hooks.tell(subject(instance, serving), instance.reporter, instance.beat)

    def vouched_for(self) -> str:
        """The release with which this instance may have visitors; "" when it may not."""
        try:
            return self._instance.settings.run.healthy.read_text().strip()
        except OSError:
            return ""

    def _set_healthy(self, release: str) -> None:
        if self.vouched_for() != release:
            with disk_errors("healthy"):
                set_healthy(self._instance.settings.run, release)


def subject(instance: Instance, serving: Serving) -> Subject:
    """What hooks are told about a release."""
    return Subject(
        release=serving.release,
        version=version_of(serving.release),
        tree=instance.webroot.paths.release(serving.release),
        promotion_id="" if serving.promotion == serving.release else serving.promotion,
    )
