"""From a few instances to everyone, in steps: each share tries the release for a while before the next joins.

What a share reports, or that it falls silent, takes the release back: nobody else has it yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from s3sync_agent import gate
from s3sync_agent.deploy.abort import take_back
from s3sync_agent.deploy.promoter import Promoter, refuse_to_go_on
from s3sync_agent.deploy.served import PROBED_WITHIN, SHOWN, await_served, listed
from s3sync_agent.errors import FleetError
from s3sync_agent.gate import Standing, Verdict
from s3sync_agent.pointer import Pointer, activated, widened
from s3sync_agent.sightings import Fleet, activation_instant, named

BAKE = 300.0  # seconds


@dataclass(frozen=True, slots=True)
class Steps:
    """`shares` in percent, ascending, below 100; after the last comes everyone. Each is baked for `bake`
    seconds."""

    shares: tuple[int, ...] = ()
    bake: float = 0.0


AT_ONCE = Steps()


def roll_out(promoter: Promoter, steps: Steps) -> frozenset[str]:
    """From what is prepared, or from the share that the pointer names, to the pointer that means everyone.

    Returns who was in the gate when that was written. Raises FleetError, saying what was done about it,
    PointerConflict, StoreError.
    """
    if promoter.pointer.rollout is None:
        asked = _widen(promoter, next(iter(steps.shares), None))
    else:
        asked = gate.waited_for(promoter.look(), promoter.gate())
    while promoter.pointer.rollout is not None:
        await_served(promoter, asked=asked, take_back=take_back)
        _bake(promoter, steps.bake)
        reached = promoter.pointer.rollout.percent
        asked = _widen(promoter, next((share for share in steps.shares if share > reached), None))
    return asked


def _widen(promoter: Promoter, share: int | None) -> frozenset[str]:
    """Write the pointer that means this share, and somebody in any case, or everyone. Returns who is in the
    gate."""
    fleet, who, before = promoter.look(), promoter.gate(), promoter.pointer
    ref = before.prepare or before.active
    percent = None if share is None else gate.share_with_somebody(fleet, who, share, ref.promotion_id)
    if share is not None and percent is None:
        raise FleetError(
            f"{ref.version} was not promoted: nobody is heard of who could try it\n{take_back(promoter)}",
            hint="`s3sync fleet` shows every instance",
        )
    move: Callable[..., Pointer] = widened
    if before.prepare is not None:
        stayed = not gate.denied_by_anyone(fleet, before.active.promotion_id)
        move = partial(activated, stayed=stayed)
    pointer = move(
        before,
        activate_at=activation_instant(fleet),
        percent=percent,
        by=promoter.by,
        reason=promoter.reason,
        now=promoter.now(),
    )
    promoter.write(
        pointer, deed="" if percent is None else f"{ref.version} was rolled out", version=ref.version
    )
    promoter.show.say(_told(fleet, pointer))
    return gate.waited_for(fleet, who)


def _told(fleet: Fleet, pointer: Pointer) -> str:
    active, rollout = pointer.active, pointer.rollout
    when = f"at {active.activate_at}" if active.activate_at else "at once"
    if rollout is None:
        return f"{active.version} goes live {when} (sequence {pointer.sequence})"
    names = named(gate.takers(fleet, pointer, rollout.percent, active.promotion_id))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (
        f"{active.version} goes live on {rollout.percent} % {when} (sequence {pointer.sequence}): "
        f"{', '.join(names[:SHOWN])}{more}"
    )


def _bake(promoter: Promoter, seconds: float) -> None:
    """Raises FleetError when something goes wrong meanwhile, or nobody is left who tries it."""
    active, rollout = promoter.pointer.active, promoter.pointer.rollout
    refuse_to_go_on(promoter.pointer)  # frozen while it was activated
    ends = promoter.now() + seconds

    def allowed(verdict: Verdict) -> float:
        """All who try it have to be heard of afterwards: one that died in a short bake would not be silent
        yet. An agent that was stopped may be on its way back, as when it is upgraded."""
        if not _is_fine(verdict):
            return seconds + PROBED_WITHIN
        return (
            seconds
            if not seconds or gate.heard_since(verdict, ends)
            else seconds + gate.longest_silence(verdict)
        )

    def still(pointer: Pointer) -> bool:
        same = (pointer.active.promotion_id, pointer.rollout) == (active.promotion_id, rollout)
        return same and pointer.freeze is None

    verdict = promoter.wait(
        f"baking {active.version}",
        lambda fleet, who: gate.baking(fleet, who, promoter.pointer),
        allowed=allowed,
        until=lambda verdict: bool(_gone_wrong(verdict)),
        still=still,
    )
    if not _is_fine(verdict):
        found = _gone_wrong(verdict) or "no instance is left that tries it"
        raise FleetError(
            f"{active.version} does not go on to everyone: {found}\n{take_back(promoter)}",
            hint="`s3sync fleet` shows every instance",
        )


def _gone_wrong(verdict: Verdict) -> str:
    silent = [place for place in verdict.places if place.standing is Standing.SILENT]
    return listed([*verdict.ended_by, *silent])


def _is_fine(verdict: Verdict) -> bool:
    stopped = any(place.standing is Standing.STOPPED for place in verdict.places)
    return bool(verdict.ready) and not stopped and not _gone_wrong(verdict)
