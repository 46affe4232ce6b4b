"""Compare-and-swap of the pointer: exactly one promoter wins, and everyone learns who."""

from __future__ import annotations

from s3sync_agent import trust
from s3sync_agent.bucket import Bucket
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
from s3sync_agent.pointer import Pointer, encode_pointer
from s3sync_agent.release import digest


def write_pointer(bucket: Bucket, site: Site, pointer: Pointer, *, over: str | None) -> str:
    """Store `pointer` over the object with the ETag `over` (None: where there is none yet).

    Returns the new ETag. An answer that says "no", or that never came, proves nothing: an SDK
    retries a write that S3 had already committed. So the pointer is read back, and only bytes
    decide. Raises PointerConflict naming the winner; StoreUnavailable when nothing was written, or
    when nobody can tell; any other StoreError of the write as it is.
    """
    raw = encode_pointer(pointer)
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
        return _read_back(bucket, site, pointer, raw, over, error)


def _read_back(  # noqa: PLR0913  # one question with all that was known when it was asked
    bucket: Bucket, site: Site, pointer: Pointer, raw: bytes, over: str | None, error: StoreError
) -> str:
    version = pointer.active.version
    try:
        found = bucket.get(site.pointer, limit=POINTER_READ_LIMIT)
    except ObjectMissing:
        found = None
    except StoreError as second:
        raise StoreUnavailable(
            f"cannot tell whether {version} was promoted: {error}; reading back failed too: {second}",
            hint="`s3sync status` says which release is wanted, once S3 answers",
        ) from error
    if found is not None and found.body == raw:
        return found.etag
    unchanged = (found.etag if found else None) == over
    if unchanged and isinstance(error, StoreUnavailable):
        raise StoreUnavailable(f"{version} was not promoted: {error}", hint="run it again") from error
    raise _conflict(site, pointer, found.body if found else None, unchanged=unchanged) from error


def _conflict(site: Site, ours: Pointer, found: bytes | None, *, unchanged: bool) -> PointerConflict:
    version = ours.active.version
    hint = "look at `s3sync status`, then decide again"
    if unchanged:
        return PointerConflict(
            f"{version} was not promoted: somebody else is writing the pointer now", hint=hint
        )
    if found is None:
        return PointerConflict(f"{version} was not promoted: the pointer was deleted meanwhile", hint=hint)
    try:
        winner = trust.accept(found, site=site.url, accepted=None).pointer
    except ReleaseError as error:
        return PointerConflict(
            f"{version} was not promoted: somebody put an unreadable pointer there ({error})", hint=hint
        )
    if any(entry.promotion_id == ours.active.promotion_id for entry in winner.history):
        return PointerConflict(f"{version} was promoted, but at once replaced: {who(winner)}", hint=hint)
    return PointerConflict(f"{version} was not promoted: {who(winner)} came first", hint=hint)


def who(pointer: Pointer) -> str:
    """`<version> by <whom> at <when>`, as far as the pointer tells."""
    for entry in pointer.history:
        if entry.promotion_id == pointer.active.promotion_id:
            by = escape(entry.by) or "somebody"
            return f"{entry.version} by {by} at {escape(entry.promoted_at)}"
    return f"{pointer.active.version} (sequence {pointer.sequence})"
