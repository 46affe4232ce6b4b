"""Promotion in two phases: all have the release on their disks before any shows it, all show it at once.

The pointer says at every moment what is going on, so a promotion that was killed goes on when the same
command is run again.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace

from s3sync_agent import gate
from s3sync_agent.deploy.abort import take_back
from s3sync_agent.deploy.canary import AT_ONCE, Steps, roll_out
from s3sync_agent.deploy.guards import (
    check_notes,
    looks_like_an_accident,
    objection,
    refuse_while_frozen,
    whole_release,
)
from s3sync_agent.deploy.promote import Promotion, promote_now, reference
from s3sync_agent.deploy.promoter import Promoter
from s3sync_agent.deploy.releases import StoredManifest
from s3sync_agent.deploy.served import SHOWN, await_served, listed, missing
from s3sync_agent.errors import FleetError, PointerConflict
from s3sync_agent.gate import Verdict
from s3sync_agent.layout import escape
from s3sync_agent.pointer import Pointer, format_time, prepared
from s3sync_agent.sightings import Fleet

NewId = Callable[[], str]


def promote(
    promoter: Promoter, version: str, *, new_id: NewId, force: bool = False, steps: Steps = AT_ONCE
) -> Promotion:
    """Make `version` live on every instance at one instant, or in `steps`, or on none.

    `new_id` makes a random promotion id. Goes on with a promotion of the same release that was interrupted.
    Raises FleetError when the fleet did not take it, saying what was done about it; ReleaseError,
    PointerConflict and StoreError as `promote_now` does.
    """
    with promoter.telling_what_stands(version):
        return _promote(promoter, version, new_id=new_id, force=force, steps=steps)


def _promote(promoter: Promoter, version: str, *, new_id: NewId, force: bool, steps: Steps) -> Promotion:
    check_notes(promoter.by, promoter.reason)
    before = promoter.read()
    if before is None:
        return _first(promoter, version, promotion_id=new_id(), force=force)
    refuse_while_frozen(before)
    stored = whole_release(promoter.bucket, promoter.site, version)
    _refuse_beside_another(promoter, before, stored)
    overridden = []
    if accident := looks_like_an_accident(promoter.bucket, promoter.site, before, stored):
        overridden.append(objection(accident, "promotes it all the same", force=force))
    fleet = _look(promoter)
    if _stands(before, stored, fleet):
        nobody = "" if fleet else "; no instance writes heartbeats, so nobody says who serves it"
        promoter.show.say(f"{version} is active already{nobody}")
        asked = gate.waited_for(fleet, promoter.gate())
    else:
        _refuse_without(promoter, fleet, version)
        if before.rollout is not None:
            promoter.show.say(f"{version} is on {before.rollout.percent} % already")
        else:
            _prepare(promoter, stored, fleet, new_id)
            _await_staged(promoter)
        asked = roll_out(promoter, steps)
    figures = await_served(promoter, asked=asked, take_back=take_back)
    promotion = Promotion(promoter.pointer, promoter.etag, before, stored.manifest, tuple(overridden))
    return replace(promotion, figures=figures)


def _first(promoter: Promoter, version: str, *, promotion_id: str, force: bool) -> Promotion:
    """Nothing is served yet, so there is nobody to wait for."""
    return _watched(promoter, promote_now(promoter, version, promotion_id=promotion_id, force=force))


def watched(promoter: Promoter, promotion: Promotion) -> Promotion:
    """The second phase of a promotion without a first, where there is anybody to watch."""
    with promoter.telling_what_stands(promotion.pointer.active.version):
        return _watched(promoter, promotion)


def _watched(promoter: Promoter, promotion: Promotion) -> Promotion:
    everyone = promoter.gate().expect > 0 or promoter.members is not None
    if not everyone and not promoter.look():
        return promotion
    first = promotion.before is None and bool(promoter.look().fresh())
    asked = None if everyone or first else promotion.asked
    figures = await_served(promoter, asked=asked, take_back=take_back, staged=False, somebody=first)
    return replace(promotion, pointer=promoter.pointer, figures=figures)


def _refuse_beside_another(promoter: Promoter, before: Pointer, stored: StoredManifest) -> None:
    version = stored.manifest.version
    other = before.prepare or (before.active if before.rollout else None)
    if other is None or (other.version, other.manifest_sha256) == (version, stored.sha256):
        return
    doing = "prepared" if before.prepare else "being rolled out"
    info = promoter.bucket.head(promoter.site.pointer)
    since = f" since {format_time(info.last_modified)}" if info else ""
    raise PointerConflict(
        f"{version} was not promoted: {other.version} is {doing}{since}",
        hint=f"`s3sync promote {other.version}` goes on with it, `s3sync abort` takes it back",
    )


def _look(promoter: Promoter) -> Fleet:
    """The fleet; says which of those to ignore is no instance."""
    fleet = promoter.look()
    for unknown in sorted(promoter.gate().ignore - fleet.names()):
        promoter.show.say(f"--ignore {escape(unknown)}: there is no instance of that name")
    return fleet


def _refuse_without(promoter: Promoter, fleet: Fleet, version: str) -> None:
    """Raises FleetError when there is no instance to ask."""
    if not fleet and not promoter.gate().members:
        raise FleetError(
            f"{version} was not promoted: no instance writes heartbeats, so nobody can say that it has it\n"
            "nothing was changed",
            hint=f"`s3sync promote {version} --now` does without; old agents write none, "
            "nor do those with heartbeat_interval = 0",
        )


def _stands(pointer: Pointer, stored: StoredManifest, fleet: Fleet) -> bool:
    """Whether the release is active for everyone and nobody denies it."""
    return (
        pointer.active.manifest_sha256 == stored.sha256
        and pointer.active.version == stored.manifest.version
        and pointer.prepare is None
        and pointer.rollout is None
        and not gate.denied_by_anyone(fleet, pointer.active.promotion_id)
    )


# -------------------------------------------------------------------------- phase one


def _prepare(promoter: Promoter, stored: StoredManifest, fleet: Fleet, new_id: NewId) -> None:
    """Write `prepare`, unless an earlier run did and nobody refused it."""
    before, version = promoter.pointer, stored.manifest.version
    found = before.prepare
    if found is not None and found.manifest_sha256 == stored.sha256 and not gate.refused(fleet, found):
        promoter.show.say(f"{version} is prepared already (sequence {before.sequence})")
        return
    pointer = prepared(before, ref=reference(stored, new_id()), now=promoter.now())
    promoter.write(pointer, deed=f"{version} was prepared", version=version)
    promoter.show.say(f"prepared {version} (sequence {pointer.sequence})")


def _await_staged(promoter: Promoter) -> None:
    """Raises FleetError when an instance cannot stage it, or the time is over."""
    sequence, ref = promoter.pointer.sequence, promoter.pointer.prepare
    if ref is None:
        raise AssertionError("nothing is prepared")

    def still(pointer: Pointer) -> bool:
        prepare = pointer.prepare
        return prepare is not None and prepare.promotion_id == ref.promotion_id and pointer.freeze is None

    verdict = promoter.wait(
        f"staging {ref.version}",
        lambda fleet, who: gate.staged(fleet, who, ref, sequence=sequence),
        allowed=lambda _: promoter.terms.timeout,
        still=still,
    )
    if verdict.passed and not verdict.is_about_nobody:
        if not verdict.ready:
            promoter.show.say("no instance serves anything yet: nobody is waited for")
        return
    done = take_back(promoter)
    if verdict.passed:
        raise FleetError(
            f"{ref.version} was not promoted: nobody is left who could say that it is ready\n{done}",
            hint="all instances are ignored, not in the group, or gone: `s3sync fleet` shows them; "
            f"`s3sync promote {ref.version} --now` asks nobody",
        )
    if verdict.ended_by:
        hints = [f"{place.name}: {place.hint}" for place in verdict.ended_by if place.hint]
        raise FleetError(
            f"{ref.version} was not promoted: {listed(verdict.ended_by)}\n{done}",
            hint=hints[0] if hints else "`s3sync fleet` shows every instance",
        )
    raise FleetError(
        f"{ref.version} was not promoted: not ready after {promoter.terms.timeout:.0f} s: "
        f"{missing(verdict)}\n{done}",
        hint=_without_them(ref.version, verdict),
    )


def _without_them(version: str, verdict: Verdict) -> str:
    look = "`s3sync fleet` shows every instance"
    names = " ".join(f"--ignore {shlex.quote(place.name)}" for place in verdict.held_up_by[:SHOWN])
    return f"{look}; `s3sync promote {version} {names}` does not wait" if names else look
