"""Rolling back: promote a release again that was live before. Nobody is asked before, there is no time."""

from __future__ import annotations

from dataclasses import replace

from s3sync_agent import gate
from s3sync_agent.deploy.guards import check_notes, refuse_while_frozen, whole_release
from s3sync_agent.deploy.promote import Promotion, reference, say_when
from s3sync_agent.deploy.promoter import Promoter
from s3sync_agent.deploy.served import await_served
from s3sync_agent.deploy.write_pointer import who
from s3sync_agent.errors import FleetError, ReleaseError, ReleaseRefused, StoreError
from s3sync_agent.layout import escape
from s3sync_agent.pointer import HistoryEntry, Pointer, rollback_target, rolled_back
from s3sync_agent.sightings import Fleet, hurried_instant, unseen_instant


def rollback(
    promoter: Promoter, version: str | None = None, *, promotion_id: str, force: bool = False
) -> Promotion:
    """Make a release active again that was live before: `version`, or the one before the live one.

    Looks at nothing of the release being left, so it works however broken that is; says what will be done
    before it is. Raises ReleaseRefused when there is nothing to go back to, the target is not whole, or the
    site is frozen and `force` is not set; PointerConflict, StoreError.
    """
    bucket, site = promoter.bucket, promoter.site
    check_notes(promoter.by, promoter.reason)
    before = promoter.read()
    if before is None:
        raise ReleaseRefused(
            f"there is no pointer in {site.url}: nothing was promoted, or it was removed",
            hint="`s3sync releases` lists what there is; `s3sync promote VERSION` writes a new pointer",
        )
    if not force:
        refuse_while_frozen(before)
    target = _target(before, version)
    try:
        stored = whole_release(bucket, site, target.version, target.manifest_sha256)
    except ReleaseError as error:
        raise ReleaseRefused(
            f"cannot go back to {target.version}: {error}",
            hint="name another one: `s3sync rollback VERSION`; `s3sync history` lists them",
        ) from error
    promoter.show.say(f"rolling back from {who(before)} to {target.version} of {escape(target.promoted_at)}")
    if before.prepare is not None:
        promoter.show.say(f"{before.prepare.version}, which was prepared, is taken back too")
    fleet = _fleet(promoter)
    at = unseen_instant(promoter.now()) if fleet is None else hurried_instant(fleet)
    ref = reference(stored, promotion_id, at)
    why = promoter.reason or f"rolled back from {before.active.version}"
    pointer = rolled_back(before, ref=ref, by=promoter.by, reason=why, now=promoter.now())
    asked = frozenset() if fleet is None else gate.waited_for(fleet, promoter.gate())
    promoter.write(pointer, version=target.version)
    say_when(promoter)
    return Promotion(pointer, promoter.etag, before, stored.manifest, asked=asked)


def watched(promoter: Promoter, promotion: Promotion) -> Promotion:
    """Wait until the fleet is back, where there is anybody to watch. What fails stays: there is nothing
    better to go back to. Raises FleetError, PointerConflict, StoreError."""
    active = promotion.pointer.active
    try:
        fleet = promoter.look()
    except (StoreError, FleetError) as error:
        raise FleetError(
            f"{active.version} is active, but nobody can say who serves it: {error}\n"
            "the pointer stays as it is",
            hint=error.hint,
        ) from error
    if not fleet:
        return promotion
    with promoter.telling_what_stands(active.version):
        figures = await_served(promoter, asked=promotion.asked, take_back=None, staged=False)
    return replace(promotion, figures=figures)


def _fleet(promoter: Promoter) -> Fleet | None:
    """None when it cannot be looked at, and says why: that holds no rollback up."""
    try:
        return promoter.look()
    except (StoreError, FleetError) as error:
        promoter.show.say(f"the fleet cannot be looked at: {error}; going back all the same")
        return None


def _target(before: Pointer, version: str | None) -> HistoryEntry:
    """The history entry to go back to; raises ReleaseRefused."""
    if version is None:
        target = rollback_target(before)
        if target is None:
            raise ReleaseRefused(
                f"no release was live before {before.active.version}",
                hint="`s3sync releases` lists what can be promoted",
            )
        return target
    if version == before.active.version:
        raise ReleaseRefused(f"{version} is the active release already")
    for entry in before.history:
        if entry.version == version:
            return entry
    raise ReleaseRefused(
        f"{version} is not in the history of {before.site}",
        hint=f"`s3sync promote {version}` promotes any release",
    )
