"""Which instances take a release that is being rolled out. Pure."""

from __future__ import annotations

import hashlib

from s3sync_agent.pointer import Pointer


def share_of(identity: str, promotion_id: str) -> float:
    """Where this instance stands in this promotion: stable, uniform in [0, 100)."""
    hashed = hashlib.sha256(f"{promotion_id}\0{identity}".encode()).digest()
    return int.from_bytes(hashed[:6]) / 2**48 * 100  # 48 bits: a float holds them, so never 100


def takes_active(pointer: Pointer, *, identity: str, canary: bool) -> bool:
    """Whether the pointer means its active release for this instance."""
    if pointer.rollout is None or pointer.rollout.percent >= 100:
        return True
    return canary or share_of(identity, pointer.active.promotion_id) < pointer.rollout.percent
