"""Taking back what is under way: by hand, and when the fleet reported that it does not work."""

from __future__ import annotations

from dataclasses import dataclass

from s3sync_agent import gate
from s3sync_agent.deploy.promoter import Promoter
from s3sync_agent.deploy.write_pointer import who
from s3sync_agent.errors import ReleaseRefused, StoreError
from s3sync_agent.pointer import Pointer, aborted, parse_time


@dataclass(frozen=True, slots=True)
class TakenBack:
    """`done` says it in a sentence. `active_changed`: what is left was active, and `current/` may show it."""

    done: str
    active_changed: bool


def abort(promoter: Promoter) -> TakenBack:
    """Take back a prepared release, or an active one that is being rolled out, whose instant is ahead, or
    that an instance denies.

    Raises ReleaseRefused when nothing is under way, PointerConflict, StoreError.
    """
    before = promoter.read()
    if before is None:
        raise ReleaseRefused(f"there is no pointer in {promoter.site.url}: nothing is under way")
    if before.prepare is None:
        _refuse_what_is_done(promoter, before)
    return TakenBack(_write(promoter), active_changed=before.prepare is None)


def take_back(promoter: Promoter) -> str:
    """The same after a failure, unless told to hold. Never raises for S3's reasons: what went wrong before
    is the news, and this says what became of it."""
    pointer = promoter.pointer
    prepared = pointer.prepare is not None
    if not promoter.terms.take_back:
        held = (
            f"{pointer.prepare.version} stays prepared" if pointer.prepare else "the pointer stays as it is"
        )
        return f"{held}; `s3sync abort` takes it back"
    if not prepared and not _has_somewhere_to_go(pointer):
        return "the pointer stays as it is: there is no release to go back to"
    try:
        return _write(promoter)
    except StoreError as error:
        return f"it could not be taken back: {error}"


def _write(promoter: Promoter) -> str:
    before = promoter.pointer
    after = aborted(before, now=promoter.now())
    left = before.prepare or before.active
    promoter.write(after, deed=f"{left.version} was taken back")
    if before.prepare is not None:
        return f"{left.version} is not prepared any more; nothing that is served has changed"
    return f"the pointer is back at {after.active.version}, which instances serve again after their next poll"


def _refuse_what_is_done(promoter: Promoter, pointer: Pointer) -> None:
    active = pointer.active
    under_way = (
        pointer.rollout is not None
        or (active.activate_at is not None and parse_time(active.activate_at) > promoter.now())
        or gate.denied_by_anyone(promoter.look(), active.promotion_id)
    )
    if not under_way:
        raise ReleaseRefused(
            f"nothing is under way: everyone is meant to serve {who(pointer)}",
            hint="`s3sync rollback` goes back to the release before",
        )
    if not _has_somewhere_to_go(pointer):
        raise ReleaseRefused(
            f"there is nothing to go back to from {active.version}: it is the first release, or a rollback",
            hint="`s3sync history` lists what was live; `s3sync promote VERSION --now` promotes any release",
        )


def _has_somewhere_to_go(pointer: Pointer) -> bool:
    baseline = pointer.baseline
    return baseline is not None and baseline.manifest_sha256 != pointer.active.manifest_sha256
