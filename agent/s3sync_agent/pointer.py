"""The pointer: the one mutable document, which says which release should be live. Pure.

Format: schema 1 of docs/contract.md. `signed` is kept as the exact bytes that were stored: it is
what signatures are made over and what "the same pointer" means.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from s3sync_agent import layout
from s3sync_agent.errors import PointerInvalid

POINTER_TYPE = "s3sync-pointer"
SCHEMA = 1
MAX_POINTER_BYTES = 64 * 1024
HISTORY_LENGTH = 20

_Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_PromotionId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{8,64}\Z")]
_Text = Annotated[str, msgspec.Meta(max_length=512)]


class ReleaseRef(msgspec.Struct, frozen=True, kw_only=True):
    """One release as the pointer names it. `activate_at` is RFC 3339 in UTC, or null for "now"."""

    version: str
    manifest_sha256: _Sha256
    manifest_size: Annotated[int, msgspec.Meta(ge=1)]
    promotion_id: _PromotionId
    activate_at: str | None = None

    @property
    def id(self) -> str:
        """The release's directory name on an instance."""
        return layout.release_id(self.version, self.manifest_sha256)


class Rollout(msgspec.Struct, frozen=True):
    """The share of instances, in percent, that takes `active`."""

    percent: Annotated[int, msgspec.Meta(ge=0, le=100)]


class Freeze(msgspec.Struct, frozen=True, kw_only=True):
    """Promotions are refused until somebody lifts it. Nothing for agents."""

    reason: _Text
    by: _Text = ""
    at: str = ""


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One promotion that was meant for everyone."""

    version: str
    manifest_sha256: _Sha256
    promotion_id: _PromotionId
    promoted_at: str
    by: _Text = ""
    reason: _Text = ""


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """What `signed` holds. `history` is newest first."""

    type: str
    schema: int
    site: str
    sequence: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    active: ReleaseRef
    baseline: ReleaseRef | None = None
    prepare: ReleaseRef | None = None
    rollout: Rollout | None = None
    freeze: Freeze | None = None
    history: Annotated[tuple[HistoryEntry, ...], msgspec.Meta(max_length=HISTORY_LENGTH)] = ()

    def named(self) -> tuple[ReleaseRef, ...]:
        """Every release this pointer needs kept: active, baseline, prepare."""
        return tuple(ref for ref in (self.active, self.baseline, self.prepare) if ref is not None)


class Signature(msgspec.Struct, frozen=True):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, frozen=True):
    signed: msgspec.Raw
    signatures: tuple[Signature, ...] = ()


class Document(msgspec.Struct, frozen=True):
    """A parsed pointer with the stored bytes of its `signed` part."""

    pointer: Pointer
    signed: bytes
    signatures: tuple[Signature, ...]


_envelopes = msgspec.json.Decoder(_Envelope)
_pointers = msgspec.json.Decoder(Pointer)
_heads = msgspec.json.Decoder(dict[str, object])


def parse_pointer(raw: bytes) -> Document:
    """Bytes → a pointer that obeys every rule that needs no other knowledge.

    Whether it may be *accepted* (site, sequence, signatures) is the business of `trust`.
    Raises PointerInvalid, UnsafePath.
    """
    if len(raw) > MAX_POINTER_BYTES:
        raise PointerInvalid(f"pointer is {len(raw)} bytes, the limit is {MAX_POINTER_BYTES}")
    try:
        envelope = _envelopes.decode(raw)
        head = _heads.decode(envelope.signed)
        if head.get("type") != POINTER_TYPE:
            raise PointerInvalid(f"pointer type is not {POINTER_TYPE!r}")
        if head.get("schema") != SCHEMA:
            raise PointerInvalid(
                f"pointer schema {layout.escape(str(head.get('schema'))[:20])} is unknown here",
                hint="upgrade s3sync-agent on the instances first",
            )
        pointer = _pointers.decode(envelope.signed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PointerInvalid(
            f"pointer cannot be read: {layout.escape(str(error))}",
            hint="put it right with `s3sync promote VERSION --now --force`",
        ) from error
    for ref in pointer.named():
        layout.check_version(ref.version)
        if ref.activate_at is not None:
            parse_time(ref.activate_at)
    for entry in pointer.history:
        layout.check_version(entry.version)
    return Document(pointer, bytes(envelope.signed), envelope.signatures)


def encode_pointer(pointer: Pointer, signatures: tuple[Signature, ...] = ()) -> bytes:
    """Pointer → the bytes to store. Raises PointerInvalid above 64 KiB."""
    raw = msgspec.json.encode(_Envelope(msgspec.Raw(msgspec.json.encode(pointer)), signatures))
    if len(raw) > MAX_POINTER_BYTES:
        raise PointerInvalid(f"pointer would be {len(raw)} bytes, the limit is {MAX_POINTER_BYTES}")
    return raw


# ------------------------------------------------------------------------------- time

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z\Z")


def parse_time(text: str) -> float:
    """RFC 3339 in UTC with `Z` → unix seconds. Raises PointerInvalid."""
    if not _TIME.match(text):
        raise PointerInvalid(f"time {layout.escape(text[:40])!r} is not YYYY-MM-DDTHH:MM:SS[.fff]Z")
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise PointerInvalid(f"time {text!r} does not exist") from error


def format_time(seconds: float) -> str:
    """Unix seconds → RFC 3339 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


# ---------------------------------------------------------------------------- writing


def next_sequence(last: int | None, now: float) -> int:
    """Grows with every write, and jumps ahead of any pointer that was lost."""
    return max((last or 0) + 1, int(now))


def promoted(
    before: Pointer | None,
    *,
    site: str,
    ref: ReleaseRef,
    by: str,
    reason: str,
    now: float,
    stayed: bool = True,
) -> Pointer:
    """The pointer that makes `ref` active for everyone at once (`promote --now`).

    The release that was live for everyone becomes the baseline; not one that was still being rolled out,
    nor one that had not `stayed` because instances denied it: what was the baseline then is so still.
    `now` is unix seconds by S3's clock.
    """
    return Pointer(
        type=POINTER_TYPE,
        schema=SCHEMA,
        site=site,
        sequence=next_sequence(before.sequence if before else None, now),
        active=ref,
        baseline=_baseline_after(before, ref, stayed=stayed),
        prepare=None,
        rollout=None,
        freeze=before.freeze if before else None,
        history=_recorded(before, ref, by=by, reason=reason, now=now),
    )


def rolled_back(before: Pointer, *, ref: ReleaseRef, by: str, reason: str, now: float) -> Pointer:
    """The pointer that takes everyone back to `ref`.

    `ref` is its own baseline: it reached everyone before, and what is being left must not be
    what a newcomer falls back on.
    """
    pointer = promoted(before, site=before.site, ref=ref, by=by, reason=reason, now=now)
    return msgspec.structs.replace(pointer, baseline=msgspec.structs.replace(ref, activate_at=None))


def prepared(before: Pointer, *, ref: ReleaseRef, now: float) -> Pointer:
    """The pointer that has everyone stage `ref`; nothing that is served changes."""
    return _moved(before, now, prepare=msgspec.structs.replace(ref, activate_at=None))


def activated(
    before: Pointer,
    *,
    activate_at: float | None,
    percent: int | None,
    by: str,
    reason: str,
    now: float,
    stayed: bool = True,
) -> Pointer:
    """The pointer that makes what was prepared active from `activate_at` (unix seconds) on, for everyone
    (`percent` None) or a share. Only what is meant for everyone enters the history.

    `before` has a `prepare`; `stayed` as in `promoted`.
    """
    if before.prepare is None:
        raise AssertionError("nothing is prepared")
    ref = msgspec.structs.replace(before.prepare, activate_at=_moment(activate_at))
    for_everyone = promoted(before, site=before.site, ref=ref, by=by, reason=reason, now=now, stayed=stayed)
    if percent is None:
        return for_everyone
    return msgspec.structs.replace(for_everyone, rollout=Rollout(percent), history=before.history)


def widened(
    before: Pointer,
    *,
    activate_at: float | None,
    percent: int | None,
    by: str,
    reason: str,
    now: float,
) -> Pointer:
    """The pointer that has a larger share, or everyone (`percent` None), take `active`. Those who serve it
    already keep it; `activate_at` is for those who join."""
    ref = msgspec.structs.replace(before.active, activate_at=_moment(activate_at))
    if percent is not None:
        return _moved(before, now, active=ref, rollout=Rollout(percent))
    history = _recorded(before, ref, by=by, reason=reason, now=now)
    return _moved(before, now, active=ref, rollout=None, history=history)


def aborted(before: Pointer, *, now: float) -> Pointer:
    """The pointer that takes back what is under way: a `prepare`, or, without one, an `active` in favour of
    the baseline, at once and under the id it was promoted with.

    `before` has a `prepare` or a `baseline`. The baseline is its own then, as after a rollback: what is
    being left must not be what a newcomer falls back on.
    """
    if before.prepare is not None:
        return _moved(before, now, prepare=None)
    if before.baseline is None:
        raise AssertionError("there is no baseline to go back to")
    left = before.active.promotion_id
    history = tuple(entry for entry in before.history if entry.promotion_id != left)
    return _moved(before, now, active=before.baseline, rollout=None, history=history)


def frozen(before: Pointer, *, reason: str, by: str, now: float) -> Pointer:
    """The pointer that says why nothing may be promoted for now."""
    freeze = Freeze(reason=reason[:512], by=by[:512], at=format_time(now))
    return _moved(before, now, freeze=freeze)


def unfrozen(before: Pointer, *, now: float) -> Pointer:
    return _moved(before, now, freeze=None)


def _moved(before: Pointer, now: float, **changes: Any) -> Pointer:
    """The next pointer after `before`."""
    return msgspec.structs.replace(before, sequence=next_sequence(before.sequence, now), **changes)


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else format_time(seconds)


def _baseline_after(before: Pointer | None, ref: ReleaseRef, *, stayed: bool) -> ReleaseRef | None:
    if before is None:
        return None
    for_everyone = before.rollout is None or before.rollout.percent >= 100
    again = before.baseline is not None and before.active.manifest_sha256 == ref.manifest_sha256
    if not (for_everyone and stayed) or again:  # a release is no way back from itself
        return before.baseline
    return msgspec.structs.replace(before.active, activate_at=None)


def _recorded(
    before: Pointer | None, ref: ReleaseRef, *, by: str, reason: str, now: float
) -> tuple[HistoryEntry, ...]:
    entry = HistoryEntry(
        version=ref.version,
        manifest_sha256=ref.manifest_sha256,
        promotion_id=ref.promotion_id,
        promoted_at=format_time(now),
        by=by[:512],
        reason=reason[:512],
    )
    return _trimmed((entry, *(before.history if before else ())))


def _trimmed(history: tuple[HistoryEntry, ...]) -> tuple[HistoryEntry, ...]:
    """At most HISTORY_LENGTH entries, with the same releases to roll back to, newest first.

    What a rollback left goes before what it went back to. Cutting off the oldest alone would turn
    `B C B`, "back from C", into `C B`, "B after C", and a rollback would go forth to C.
    """
    entries = list(reversed(history))
    while len(entries) > HISTORY_LENGTH:
        loop = _first_loop(entries)
        del entries[loop or slice(1)]
    return tuple(reversed(entries))


def _first_loop(entries: list[HistoryEntry]) -> slice | None:
    """The earliest stretch, oldest first, that ends by going back to where it began."""
    seen: dict[str, int] = {}
    for index, entry in enumerate(entries):
        if entry.manifest_sha256 in seen:
            return slice(seen[entry.manifest_sha256], index)
        seen[entry.manifest_sha256] = index
    return None


def rollback_target(pointer: Pointer) -> HistoryEntry | None:
    """The release before the one that is live, or None.

    History is replayed as a stack: going back to a release drops what came after it, so a
    second rollback goes further back and never forth.
    """
    stack: list[HistoryEntry] = []
    for entry in reversed(pointer.history):
        for depth, kept in enumerate(stack):
            if kept.manifest_sha256 == entry.manifest_sha256:
                del stack[depth:]
                break
        stack.append(entry)
    while stack and stack[-1].manifest_sha256 == pointer.active.manifest_sha256:
        stack.pop()
    return stack[-1] if stack else None
