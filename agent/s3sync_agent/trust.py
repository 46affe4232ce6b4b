"""Whether a pointer may be accepted. Pure: receives bytes, knows every rule, does no I/O.

The rules, in the order they are checked:
1. The document obeys the contract (`parse_pointer`).
2. `site` is the configured one: a pointer of staging cannot be replayed to production.
3. The sequence is above the accepted one; the same sequence with the same `signed` bytes is the
   same pointer again; with other bytes, or below, it is refused. What was accepted for another site,
   before the setting changed, says nothing about this one.

Nothing may be persisted before the last check has passed.
"""

from __future__ import annotations

from s3sync_agent import layout
from s3sync_agent.errors import PointerInvalid, RollbackRefused
from s3sync_agent.pointer import Document, parse_pointer


def accept(raw: bytes, *, site: str, accepted: Document | None) -> Document:
    """The document that `raw` holds, when it may replace `accepted`.

    Raises PointerInvalid, UnsafePath, RollbackRefused; `accepted` then stays in force.
    """
    document = parse_pointer(raw)
    pointer = document.pointer
    if pointer.site != site:
        raise PointerInvalid(
            f"pointer is for {layout.escape(pointer.site[:200])!r}, this site is {site!r}",
            hint="was it copied from another bucket or prefix? promote in this site instead",
        )
    if accepted is None or accepted.pointer.site != site or document.signed == accepted.signed:
        return document
    last = accepted.pointer.sequence
    if pointer.sequence < last:
        raise RollbackRefused(
            f"pointer has sequence {pointer.sequence}, {last} was accepted already",
            hint="an old pointer was put back; roll back with `s3sync rollback`",
        )
    if pointer.sequence == last:
        raise RollbackRefused(
            f"pointer has the accepted sequence {last} but other content",
            hint="two writers ignored the compare-and-swap; promote again",
        )
    return document
