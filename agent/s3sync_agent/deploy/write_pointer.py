"""Compare-and-swap of the pointer: exactly one promoter wins, and everyone learns who."""

from __future__ import annotations

from s3sync_agent import trust
from s3sync_agent.bucket import Bucket, Fetched
from s3sync_agent.deploy.releases import POINTER_READ_LIMIT
from s3sync_agent.errors import (
    ObjectMissing,
    PointerConflict,
    PreconditionFailed,
    ReleaseError,
    StoreError,
    StoreUnavailable,
)
from s3sync_agent.layout import Site, escape
from s3sync_agent.pointer import Pointer, encode_pointer, parse_pointer
from s3sync_agent.release import digest


def write_pointer(bucket: Bucket, site: Site, pointer: Pointer, *, over: str | None, deed: str = "") -> str:
    """Store `pointer` over the object with the ETag `over` (None: where there is none yet).

    `deed` says what that does when it does not promote, as "v2 was prepared".
    Returns the new ETag. An answer that says "no", or that never came, proves nothing: an SDK
    retries a write that S3 had already committed. So the pointer is read back, and only bytes
    decide. Raises PointerConflict naming the winner; StoreUnavailable when nothing was written, or
    when nobody can tell; any other StoreError of the write as it is. PointerInvalid before anything is
    written: a sequence, say, that can be raised no further.
    """
    raw = encode_pointer(pointer)
    parse_pointer(raw)  # nothing is written that an agent would not take
    try:
        return bucket.put(
            site.pointer,
            raw,
            size=len(raw),
            sha256=digest(raw),
            content_type="application/json",
            if_match=over or "",
            create_only=over is None,
        )
    except (PreconditionFailed, StoreUnavailable) as error:
        found = _read_back(bucket, site, deed or _promoted(pointer), error)
        if found is not None and found.body == raw:
            return found.etag
        raise _lost(site, pointer, over, found, error, deed=deed) from error


def _read_back(bucket: Bucket, site: Site, deed: str, error: StoreError) -> Fetched | None:
    try:
        return bucket.get(site.pointer, limit=POINTER_READ_LIMIT)
    except ObjectMissing:
        return None
    except StoreError as second:
        raise StoreUnavailable(
            f"cannot tell whether {deed}: {error}; reading back failed too: {second}",
            hint="`s3sync status` says which release is wanted, once S3 answers",
        ) from error


def _lost(
    site: Site, ours: Pointer, over: str | None, found: Fetched | None, error: StoreError, *, deed: str
) -> StoreError:
    """What to raise when the pointer that is there is not ours."""
    failed = (deed or _promoted(ours)).replace(" was ", " was not ", 1)
    hint = "look at `s3sync status`, then decide again"
    if (found.etag if found else None) == over:
        if isinstance(error, StoreUnavailable):
            return StoreUnavailable(f"{failed}: {error}", hint="nothing was changed; run it again")
        return PointerConflict(f"{failed}: somebody else is writing the pointer now", hint=hint)
    if found is None:
        return PointerConflict(f"{failed}: the pointer was deleted meanwhile", hint=hint)
    try:
        winner = trust.accept(found.body, site=site.url, accepted=None).pointer
    except ReleaseError as fault:
        return PointerConflict(f"{failed}: somebody put an unreadable pointer there ({fault})", hint=hint)
    if not deed and any(entry.promotion_id == ours.active.promotion_id for entry in winner.history):
        failed = f"{_promoted(ours)}, but replaced at once"
        if winner.active.promotion_id == ours.active.promotion_id:  # whoever carried the same promotion on
            failed = f"{ours.active.version} is promoted already"
            hint = f"`s3sync promote {ours.active.version}` watches on"
    return PointerConflict(f"{failed}: the pointer is at {who(winner)}", hint=hint)


def _promoted(pointer: Pointer) -> str:
    return f"{pointer.active.version} was promoted"


def who(pointer: Pointer) -> str:
    """`<version> by <whom> at <when>`, as far as the pointer tells."""
    for entry in pointer.history:
        if entry.promotion_id == pointer.active.promotion_id:
            by = escape(entry.by) or "somebody"
            return f"{entry.version} by {by} at {escape(entry.promoted_at)}"
    return f"{pointer.active.version} (sequence {pointer.sequence})"
