"""How a tick ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a tick ended. `wanted` is the release id that should be live; `look_again` seconds until
    `current/` may have settled; `held` why nothing is taken."""

    wanted: str | None
    look_again: float | None = None
    held: str = ""
    plain: bool = False
