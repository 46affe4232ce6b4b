"""What an instance remembers besides what the disk itself shows.

`state.json` is written after the links it speaks of are durable. Losing it costs one unconditional
GET: which release is live is read from the link, never from here.
"""

from __future__ import annotations

import msgspec

from s3sync_agent.errors import ReleaseError
from s3sync_agent.pointer import Document, parse_pointer

SCHEMA = 1
REMEMBERED = 20
MAX_REASON = 512  # characters


class Denial(msgspec.Struct, frozen=True):
    """A promotion this instance will not take."""

    promotion_id: str
    reason: str


class PlainRelease(msgspec.Struct, frozen=True):
    """The listing that a plain release was made from. `marker` is the LastModified of the newest
    `complete` marker seen by then: it says nothing about any tree that comes later."""

    fingerprint: str
    release: str
    marker: float | None = None


class State(msgspec.Struct, frozen=True, kw_only=True):
    """`pointer` is the accepted document as stored, with its ETag; `serving` is the release that the two
    after it are about, "" from an agent that did not note it; `retired` says when a release stopped being
    live, in unix seconds."""

    schema: int = SCHEMA
    pointer: str | None = None
    etag: str = ""
    serving: str = ""
    serving_promotion: str = ""
    serving_since: float = 0.0
    good: tuple[str, ...] = ()
    denied: tuple[Denial, ...] = ()
    retired: dict[str, float] = {}
    plain: PlainRelease | None = None

    def document(self) -> Document | None:
        """The accepted pointer."""
        return None if self.pointer is None else parse_pointer(self.pointer.encode())

    def about(self, live: str | None) -> State:
        """What holds of it where `live` is served: an agent that was killed right after a swap had not noted
        under which promotion."""
        if self.serving in ("", live):
            return self
        return msgspec.structs.replace(self, serving="", serving_promotion="", serving_since=0.0)


_decoder = msgspec.json.Decoder(State)


def encode_state(state: State) -> bytes:
    return msgspec.json.encode(state)


def parse_state(raw: bytes) -> State | None:
    """The state, or None when the bytes are not one: the caller then starts from the disk alone."""
    try:
        state = _decoder.decode(raw)
        state.document()
    except (msgspec.DecodeError, UnicodeError, RecursionError, ReleaseError):
        return None
    return state if state.schema == SCHEMA else None
