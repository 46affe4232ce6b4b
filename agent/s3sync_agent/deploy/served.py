"""The second phase: everybody serves what the pointer makes active, and found it good."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from s3sync_agent import gate
from s3sync_agent.deploy.promoter import Promoter
from s3sync_agent.errors import FleetError
from s3sync_agent.gate import Figures, Place, Verdict
from s3sync_agent.pointer import Pointer, parse_time

PROBED_WITHIN = 60.0  # seconds after the instant
SHOWN = 8  # instances in a message; a fleet may have thousands


def await_served(
    promoter: Promoter,
    *,
    asked: frozenset[str] | None,
    take_back: Callable[[Promoter], str] | None,
    staged: bool = True,
    somebody: bool = False,
) -> Figures:
    """Wait until every instance in the gate serves the active release and found it good, and, where nobody
    was in it, until `somebody` does.

    `asked` as in `gate.serving`. A reported failure ends it, and `take_back` says what becomes of the pointer
    (None: it stays). Who is not heard of has until PROBED_WITHIN after the instant, and so has everybody when
    it was `staged` before; otherwise the time-out counts. After that the pointer stays, unless only a share
    was meant to try it. Raises FleetError, PointerConflict, StoreError.
    """
    active = promoter.pointer.active
    ahead = max(0.0, parse_time(active.activate_at) - promoter.now()) if active.activate_at else 0.0

    def is_nobody_s(verdict: Verdict) -> bool:
        return somebody and not verdict.ready

    def allowed(verdict: Verdict) -> float:
        quiet = verdict.places and verdict.only_quiet_ones_left and not is_nobody_s(verdict)
        hurry = staged or quiet
        return ahead + (PROBED_WITHIN if hurry else promoter.terms.timeout)

    def still(pointer: Pointer) -> bool:
        return (pointer.active.promotion_id, pointer.rollout) == (
            active.promotion_id,
            promoter.pointer.rollout,
        )

    verdict = promoter.wait(
        f"activating {active.version}",
        lambda fleet, who: gate.serving(fleet, who, promoter.pointer, asked=asked),
        allowed=allowed,
        until=lambda verdict: bool(verdict.ended_by) or (verdict.passed and not is_nobody_s(verdict)),
        still=still,
    )
    if verdict.ended_by:
        done = take_back(promoter) if take_back else "the pointer stays as it is"
        raise FleetError(
            f"{active.version} does not work: {listed(verdict.ended_by)}\n{done}",
            hint=_first_hint(verdict.ended_by) or "`s3sync fleet` shows every instance",
        )
    share = promoter.pointer.rollout is not None
    nobody = is_nobody_s(verdict) or (bool(asked) and not share and verdict.is_about_nobody)
    if not verdict.passed and share and take_back:
        raise FleetError(
            f"{active.version} is not known to be served where it should be tried: {missing(verdict)}\n"
            f"{take_back(promoter)}",
            hint="`s3sync fleet` shows every instance",
        )
    if not verdict.passed or nobody:
        nobodys = "nobody serves it yet" if somebody else "nobody is left who could say so"
        lacking = nobodys if nobody else missing(verdict)
        raise FleetError(
            f"{active.version} is active, but not known to be served everywhere: {lacking}\n"
            "the pointer stays as it is",
            hint=f"`s3sync fleet` shows every instance; `s3sync promote {active.version}` watches on, "
            "`s3sync rollback` takes it back",
        )
    return gate.figures(verdict, promoter.pointer.active)


def listed(places: Iterable[Place]) -> str:
    """`i-1 denied it: …; i-2 …`, safe to print."""
    found = [place.clause for place in places]
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return "; ".join(found[:SHOWN] + more)


def missing(verdict: Verdict) -> str:
    """What a verdict lacks."""
    fewer = [f"{verdict.lacking} fewer instances than expected"] if verdict.lacking else []
    return "; ".join([listed(verdict.held_up_by), *fewer] if verdict.held_up_by else fewer)


def _first_hint(places: Iterable[Place]) -> str:
    return next((f"{place.name}: {place.hint}" for place in places if place.hint), "")
