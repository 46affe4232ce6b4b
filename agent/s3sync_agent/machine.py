"""What to do next, and which states an agent goes through. Pure.

`decide` runs on every tick against the disk as it is: that the pointer did not change does not
mean that there is nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from s3sync_agent import rollout
from s3sync_agent.pointer import Pointer, ReleaseRef, parse_time


@dataclass(frozen=True, slots=True)
class View:
    """All that a decision depends on.

    `live` and `complete` are release ids read from the disk; `broken` are those that could not be
    staged in this tick; `ready` are the promotion ids that may be activated here, their releases checked
    and their hooks asked; `comparing` are those that nobody may activate just now; `denied` are promotion
    ids, too; `now` is unix seconds.
    """

    pointer: Pointer
    live: str | None
    complete: frozenset[str]
    now: float
    identity: str
    ready: frozenset[str]
    canary: bool = False
    comparing: frozenset[str] = frozenset()
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
    and what is live stays. `stage` is missing on disk, most urgent first. `check` is on disk and to be made
    ready before it can be activated. `activate` is ready and not live: `want`, or the baseline when nothing
    is live and `want` cannot be staged. `due` is an activation that lies ahead, ready or not."""

    want: ReleaseRef | None
    stage: tuple[ReleaseRef, ...]
    check: tuple[ReleaseRef, ...]
    activate: ReleaseRef | None
    due: Due | None


def decide(view: View) -> Decision:
    due = _due(view)
    want = _want(view, due)
    target = _target(view, want)
    stage = _missing(view, want)
    ahead = (target, due.ref if due else None, _prepared(view, stage))
    return Decision(
        want=want,
        stage=stage,
        check=_unready(view, ahead),
        activate=target if target and target.promotion_id in view.ready - view.comparing else None,
        due=due,
    )


def _missing(view: View, want: ReleaseRef | None) -> tuple[ReleaseRef, ...]:
    """What to stage: the most urgent first, each release once."""
    stage: dict[str, ReleaseRef] = {}
    for ref in (want, *view.pointer.named()):
        allowed = _allowed(view, ref)
        if allowed is not None and allowed.id not in view.complete | view.broken:
            stage.setdefault(allowed.id, allowed)
    return tuple(stage.values())


def _prepared(view: View, stage: tuple[ReleaseRef, ...]) -> ReleaseRef | None:
    """What is prepared, once all that may have to be served before it is here."""
    before = {ref.id for ref in (view.pointer.active, view.pointer.baseline) if ref is not None}
    if before.intersection(ref.id for ref in stage):
        return None
    return _allowed(view, view.pointer.prepare)


def _unready(view: View, refs: Iterable[ReleaseRef | None]) -> tuple[ReleaseRef, ...]:
    """Those of `refs` that are on disk and not ready, each promotion once."""
    found = [ref for ref in refs if ref is not None and ref.id in view.complete - view.broken]
    return tuple({ref.promotion_id: ref for ref in found if ref.promotion_id not in view.ready}.values())


def _target(view: View, want: ReleaseRef | None) -> ReleaseRef | None:
    """What is to be activated now, once it is ready."""
    if want is not None and want.id in view.complete - view.broken:
        return want if want.id != view.live else None
    return _substitute(view, want)


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
    return _allowed(view, view.pointer.baseline)


def _allowed(view: View, ref: ReleaseRef | None) -> ReleaseRef | None:
    return None if ref is None or ref.promotion_id in view.denied else ref


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
    STAGED = "staged"  # what is prepared, or due at an instant, is on disk and ready
    ACTIVATE = "activate"  # the link is about to be swapped
    SERVE = "serve"  # what is live is what should be, and the probe found it good
    WAIT = "wait"  # there is nothing to serve yet
    HOLD = "hold"  # `current/` is not something to take
    FALL_BACK = "fall back"  # the active promotion is denied here, the release before is served


# The theory: a tick may begin work (STAGE, ACTIVATE) and ends in SERVE, STAGED, WAIT, HOLD or FALL_BACK,
# whatever the tick before ended in, but for what cannot follow: only who has served something can fall
# back, and FALL_BACK is how ticks end as long as the active promotion is denied here; who waits for an
# instant follows a pointer, and no pointer holds `current/`. A tick that fails makes no step: the state
# stays what it was when it failed.
_WORK = {Step.STAGE: State.STAGING, Step.ACTIVATE: State.ACTIVATING}
_ENDS = {Step.SERVE: State.STEADY, Step.STAGED: State.STAGED, Step.WAIT: State.WAITING}
_HOLD = {Step.HOLD: State.HELD}
_FALL_BACK = {Step.FALL_BACK: State.FALLBACK}

TRANSITIONS: dict[State, dict[Step, State]] = {
    State.WAITING: _WORK | _ENDS | _HOLD,
    State.STEADY: _WORK | _ENDS | _HOLD | _FALL_BACK,
    State.STAGING: _WORK | _ENDS | _HOLD | _FALL_BACK,
    State.STAGED: _WORK | _ENDS | _FALL_BACK,
    State.ACTIVATING: _WORK | _ENDS | _HOLD | _FALL_BACK,
    State.FALLBACK: _WORK | _ENDS | _HOLD | _FALL_BACK,
    State.HELD: _WORK | _ENDS | _HOLD | _FALL_BACK,
}


class IllegalStep(Exception):
    """A step that the table does not know; nothing has changed."""


def advance(state: State, step: Step) -> State:
    """The state after `step`. Raises IllegalStep."""
    try:
        return TRANSITIONS[state][step]
    except KeyError:
        raise IllegalStep(f"{step.value!r} is not possible while {state.value}") from None
