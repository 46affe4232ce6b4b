"""Promoting at once: one write, nobody is asked before.

Everything in S3 is looked at before anything is written, and the pointer is the only thing written.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from s3sync_agent import gate
from s3sync_agent.deploy.guards import (
    check_notes,
    looks_like_an_accident,
    objection,
    refuse_while_frozen,
    whole_release,
)
from s3sync_agent.deploy.promoter import Promoter
from s3sync_agent.deploy.releases import StoredManifest
from s3sync_agent.errors import PointerInvalid, TooLarge
from s3sync_agent.gate import Figures
from s3sync_agent.pointer import Pointer, ReleaseRef, format_time, promoted
from s3sync_agent.release import Manifest
from s3sync_agent.sightings import hurried_instant


@dataclass(frozen=True, slots=True)
class Promotion:
    """What was written. `overridden` names the objections that `force` went over; `asked` who was in the
    gate then; `figures` are there when the fleet was watched."""

    pointer: Pointer
    etag: str
    before: Pointer | None
    manifest: Manifest
    overridden: tuple[str, ...] = ()
    asked: frozenset[str] = field(default=frozenset())
    figures: Figures | None = None


def promote_now(promoter: Promoter, version: str, *, promotion_id: str, force: bool = False) -> Promotion:
    """Make `version` the active release for everyone, without the staging phase.

    `promotion_id` is random and new. Raises ReleaseMissing and other ReleaseErrors when the
    release is not whole, ReleaseRefused when a guard objects and `force` is not set, or while the site is
    frozen; PointerConflict when somebody else came first, StoreError when S3 could not be asked.
    """
    bucket, site = promoter.bucket, promoter.site
    check_notes(promoter.by, promoter.reason)
    overridden = []
    try:
        before = promoter.read()
    except (PointerInvalid, TooLarge) as error:
        overridden.append(objection(f"the pointer cannot be used: {error}", "replaces it", force=force))
        promoter.read_over_anything()
        before = None
    if before is not None:
        refuse_while_frozen(before)
        if other := _under_way(before, version):
            overridden.append(objection(other, "promotes in its place", force=force))
    stored = whole_release(bucket, site, version)
    if accident := looks_like_an_accident(bucket, site, before, stored):
        overridden.append(objection(accident, "promotes it all the same", force=force))
    fleet = promoter.look()
    ref = reference(stored, promotion_id, hurried_instant(fleet))
    pointer = promoted(
        before,
        site=site.url,
        ref=ref,
        by=promoter.by,
        reason=promoter.reason,
        now=promoter.now(),
        stayed=before is None or not gate.denied_by_anyone(fleet, before.active.promotion_id),
    )
    asked = gate.waited_for(fleet, promoter.gate())
    promoter.write(pointer, version=version)
    say_when(promoter)
    return Promotion(pointer, promoter.etag, before, stored.manifest, tuple(overridden), asked)


def say_when(promoter: Promoter) -> None:
    """Where there is something to wait for."""
    pointer = promoter.pointer
    if pointer.active.activate_at is not None:
        at = f"at {pointer.active.activate_at} (sequence {pointer.sequence})"
        promoter.show.say(f"{pointer.active.version} goes live {at}")


def reference(stored: StoredManifest, promotion_id: str, activate_at: float | None = None) -> ReleaseRef:
    """How a pointer names the release; `activate_at` in unix seconds."""
    return ReleaseRef(
        version=stored.manifest.version,
        manifest_sha256=stored.sha256,
        manifest_size=stored.size,
        promotion_id=promotion_id,
        activate_at=None if activate_at is None else format_time(activate_at),
    )


def _under_way(pointer: Pointer, version: str) -> str:
    """Which other release is on its way, or ""."""
    if pointer.prepare is not None and pointer.prepare.version != version:
        return f"{pointer.prepare.version} is prepared"
    if pointer.rollout is not None and pointer.active.version != version:
        return f"{pointer.active.version} is being rolled out, to {pointer.rollout.percent} % so far"
    return ""
