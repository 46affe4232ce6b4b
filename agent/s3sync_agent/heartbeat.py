"""The heartbeat: the document in which an instance tells the fleet how it is. Pure.

Format: schema 1 of docs/contract.md. Every instance writes its own and reads nobody else's; whoever
reads one treats it as somebody's claim: bounded, checked, and never believed about another instance.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from s3sync_agent import layout
from s3sync_agent.errors import HeartbeatInvalid

HEARTBEAT_TYPE = "s3sync-heartbeat"
SCHEMA = 1
MAX_HEARTBEAT_BYTES = 16 * 1024
MAX_TEXT = 512  # characters of a reason or message; longer ones are cut by the writer
MAX_ITEMS = 20
STOPPED = "stopped"  # beside the states of `machine.State`: the agent ended as it was asked to

# An instance that has not written for so many of its intervals is silent.
MISSED = 3

_Name = Annotated[str, msgspec.Meta(max_length=256)]
_Text = Annotated[str, msgspec.Meta(max_length=2 * MAX_TEXT)]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=10**9)]


class Staged(msgspec.Struct, frozen=True, kw_only=True):
    """A release that the pointer names and that is on the disk, fully hashed, its hooks asked."""

    version: _Name
    manifest_sha256: _Name
    promotion_id: _Name


class Denied(msgspec.Struct, frozen=True, kw_only=True):
    """A promotion that this instance will not take."""

    promotion_id: _Name
    reason: _Text


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A release that the pointer names and that could not be staged here; it is tried again."""

    promotion_id: _Name
    release: _Name
    error: _Name
    message: _Text
    hint: _Text = ""


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """The error that stands."""

    error: _Name
    message: _Text
    hint: _Text = ""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """Times are RFC 3339 in UTC or "", durations seconds, releases their ids on the disk or ""."""

    type: str = HEARTBEAT_TYPE
    schema: int = SCHEMA
    site: Annotated[str, msgspec.Meta(max_length=2048)]
    identity: _Name
    instance_id: _Name = ""
    zone: _Name = ""
    version: _Name
    state: _Name
    stale: bool = False
    canary: bool = False
    serving: _Name = ""
    promotion_id: _Name = ""
    good: bool = False
    healthy: bool = False
    activated_at: _Name = ""
    wanted: _Name = ""
    sequence: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    staged: Annotated[tuple[Staged, ...], msgspec.Meta(max_length=MAX_ITEMS)] = ()
    denied: Annotated[tuple[Denied, ...], msgspec.Meta(max_length=MAX_ITEMS)] = ()
    failed: Annotated[tuple[Failed, ...], msgspec.Meta(max_length=MAX_ITEMS)] = ()
    behind_seconds: _Seconds = 0.0
    because: _Text = ""
    problem: Trouble | None = None
    clock_offset: Annotated[float, msgspec.Meta(ge=-(10**10), le=10**10)] = 0.0
    polled_at: _Name = ""
    next_poll_at: _Name = ""
    poll_interval: _Seconds = 5.0
    heartbeat_interval: _Seconds = 60.0
    stage_seconds: _Seconds = 0.0
    activate_seconds: _Seconds = 0.0
    late_seconds: _Seconds = 0.0
    written_at: _Name = ""

    def has_staged(self, manifest_sha256: str, promotion_id: str) -> bool:
        return any(
            item.manifest_sha256 == manifest_sha256 and item.promotion_id == promotion_id
            for item in self.staged
        )

    def silent_after(self) -> float:
        """Seconds without a new heartbeat after which this instance counts as silent."""
        return MISSED * max(self.heartbeat_interval, 1.0)


_decoder = msgspec.json.Decoder(Heartbeat)
_heads = msgspec.json.Decoder(dict[str, object])


def parse_heartbeat(raw: bytes, *, identity: str) -> Heartbeat:
    """Bytes found under `fleet/<identity>.json` → a heartbeat of that instance.

    Raises HeartbeatInvalid for anything else, another schema and another instance's name included.
    """
    if len(raw) > MAX_HEARTBEAT_BYTES:
        raise HeartbeatInvalid(f"it is {len(raw)} bytes, the limit is {MAX_HEARTBEAT_BYTES}")
    try:
        head = _heads.decode(raw)
        if head.get("type") != HEARTBEAT_TYPE:
            raise HeartbeatInvalid(f"its type is not {HEARTBEAT_TYPE!r}")
        if head.get("schema") != SCHEMA:
            shown = layout.escape(str(head.get("schema"))[:20])
            raise HeartbeatInvalid(f"its schema {shown} is unknown here", hint="upgrade this `s3sync`")
        beat = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HeartbeatInvalid(f"it cannot be read: {layout.escape(str(error))[:200]}") from error
    if beat.identity != identity:
        raise HeartbeatInvalid(f"it speaks for {layout.escape(beat.identity)!r}")
    return beat


def encode_heartbeat(beat: Heartbeat) -> bytes:
    """Heartbeat → the bytes to store. Raises HeartbeatInvalid above MAX_HEARTBEAT_BYTES."""
    raw = msgspec.json.encode(beat)
    if len(raw) > MAX_HEARTBEAT_BYTES:
        raise HeartbeatInvalid(f"it would be {len(raw)} bytes, the limit is {MAX_HEARTBEAT_BYTES}")
    return raw
