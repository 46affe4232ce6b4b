"""What to do next, and which states an agent goes through. Pure.

`decide` runs on every tick against the disk as it is: that the pointer did not change does not
mean that there is nothing to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from s3sync_agent import rollout
from s3sync_agent.pointer import Pointer, ReleaseRef, parse_time


@dataclass(frozen=True, slots=True)
class View:
    """All that a decision depends on.

    `live` and `complete` are release ids read from the disk; `broken` are those that could not be
    staged in this tick; `denied` are promotion ids; `now` is unix seconds.
    """

    pointer: Pointer
    live: str | None
    complete: frozenset[str]
    now: float
    identity: str
    canary: bool = False
    denied: frozenset[str] = frozenset()
    broken: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Due:
    """An activation that lies ahead; `at` is unix seconds."""

    ref: ReleaseRef
    at: float


@dataclass(frozen=True, slots=True)
class Decision:
    """`want` should be served now; None when nothing can be named, or before the instant of a rollback,
    and what is live stays. `stage` is missing on disk, most urgent first. `activate` is `want` when it is
    on disk and not live, or the baseline when nothing is live and `want` cannot be staged."""

    want: ReleaseRef | None
    stage: tuple[ReleaseRef, ...]
    activate: ReleaseRef | None
    due: Due | None


def decide(view: View) -> Decision:
    pointer = view.pointer
    due = _due(view)
    want = _want(view, due)
    urgent = [want] if want else []
    others = [ref for ref in pointer.named() if ref.promotion_id not in view.denied]
    stage: dict[str, ReleaseRef] = {}
    for ref in urgent + others:
        if ref.id not in view.complete and ref.id not in view.broken:
            stage.setdefault(ref.id, ref)
    ready = want is not None and want.id in view.complete and want.id != view.live
    return Decision(want, tuple(stage.values()), want if ready else _substitute(view, want), due)


def takes_active(view: View) -> bool:
    """Whether `active` is meant for this instance, now or at its time."""
    return view.pointer.active.promotion_id not in view.denied and rollout.takes_active(
        view.pointer, identity=view.identity, canary=view.canary
    )


def _due(view: View) -> Due | None:
    active = view.pointer.active
    if active.activate_at is None or not takes_active(view):
        return None
    if view.live == active.id:  # it joined earlier: the instant is for those who join now
        return None
    at = parse_time(active.activate_at)
    return Due(active, at) if view.now < at else None


def _want(view: View, due: Due | None) -> ReleaseRef | None:
    if due is None and takes_active(view):
        return view.pointer.active
    baseline = _baseline(view)
    if due is not None and baseline is not None and baseline.id == due.ref.id and view.live is not None:
        return None  # a rollback: all leave what is live at one instant; who has nothing need not wait
    return baseline


def _baseline(view: View) -> ReleaseRef | None:
    baseline = view.pointer.baseline
    return None if baseline is None or baseline.promotion_id in view.denied else baseline


def _substitute(view: View, want: ReleaseRef | None) -> ReleaseRef | None:
    """A newcomer that cannot stage what it should serves what those serve who could not either."""
    baseline = _baseline(view)
    if view.live is not None or want is None or want.id not in view.broken:
        return None
    return baseline if baseline is not None and baseline.id in view.complete else None


# ----------------------------------------------------------------------------- states


class State(Enum):
    """What an agent is doing, in the words of status, log and fleet."""

    WAITING = "waiting"
    STEADY = "steady"
    STAGING = "staging"
    STAGED = "staged"
    ACTIVATING = "activating"
    FALLBACK = "fallback"
    HELD = "held"


class Step(Enum):
    """What makes it change."""

    STAGE = "stage"  # a download begins
    STAGED = "staged"  # all is on disk, the activation lies ahead
    ACTIVATE = "activate"  # the link is about to be swapped
    SERVE = "serve"  # what is live is what should be
    WAIT = "wait"  # there is nothing to serve yet
    HOLD = "hold"  # `current/` is not something to take
    FALL_BACK = "fall back"  # the probe failed


# The theory: a tick may begin work (STAGE, ACTIVATE) and ends in SERVE, STAGED, WAIT or HOLD, whatever
# the tick before ended in. FALL_BACK undoes an activation and nothing else. A tick that fails makes
# no step: the state stays what it was when it failed.
_WORK = {Step.STAGE: State.STAGING, Step.ACTIVATE: State.ACTIVATING}
_ENDS = {
    Step.SERVE: State.STEADY,
    Step.STAGED: State.STAGED,
    Step.WAIT: State.WAITING,
    Step.HOLD: State.HELD,
}

TRANSITIONS: dict[State, dict[Step, State]] = {
    State.WAITING: _WORK | _ENDS,
    State.STEADY: _WORK | _ENDS,
    State.STAGING: _WORK | _ENDS,
    State.STAGED: _WORK | _ENDS,
    State.ACTIVATING: _WORK | _ENDS | {Step.FALL_BACK: State.FALLBACK},
    State.FALLBACK: _WORK | _ENDS,
    State.HELD: _WORK | _ENDS,
}


class IllegalStep(Exception):
    """A step that the table does not know; nothing has changed."""


def advance(state: State, step: Step) -> State:
    """The state after `step`. Raises IllegalStep."""
    try:
        return TRANSITIONS[state][step]
    except KeyError:
        raise IllegalStep(f"{step.value!r} is not possible while {state.value}") from None
