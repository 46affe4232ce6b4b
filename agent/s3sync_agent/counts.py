"""Counting what the agent reports: the numbers of status and metrics are folded from its events. Pure.

So log and metrics cannot disagree: who adds up the lines of the log gets the same numbers. Only polls are
counted apart, because an idle poll is no event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How often it happened since the agent began, and how long it took the last time."""

    polls: int = 0
    poll_failures: int = 0
    stages: int = 0
    stage_failures: int = 0
    staged_bytes: int = 0
    last_stage_seconds: float = 0.0
    activations: int = 0
    activation_failures: int = 0
    last_activation_seconds: float = 0.0
    last_activation_late: float = 0.0
    denials: int = 0
    fallbacks: int = 0
    probe_failures: int = 0
    heartbeat_failures: int = 0
    drift_found: int = 0
    drift_healed: int = 0
    drift_failed: int = 0


def after_event(counts: Counts, name: str, fields: Mapping[str, Any]) -> Counts:
    """The counts after an event of `events.EVENTS`; most change nothing."""
    match name:
        case "stage.done":
            return replace(
                counts,
                stages=counts.stages + 1,
                staged_bytes=counts.staged_bytes + fields["bytes"],
                last_stage_seconds=fields["seconds"],
            )
        case "stage.failed":
            return replace(counts, stage_failures=counts.stage_failures + 1)
        case "activate.done":
            return replace(
                counts,
                activations=counts.activations + 1,
                last_activation_seconds=fields["seconds"],
                last_activation_late=fields["late"],
            )
        case "activate.failed":
            return replace(counts, activation_failures=counts.activation_failures + 1)
        case "promotion.denied":
            return replace(counts, denials=counts.denials + 1)
        case "fallback.done":
            return replace(counts, fallbacks=counts.fallbacks + 1)
        case "probe.failed":
            return replace(counts, probe_failures=counts.probe_failures + 1)
        case "heartbeat.failed":
            return replace(counts, heartbeat_failures=counts.heartbeat_failures + 1)
        case "drift.found":
            return replace(counts, drift_found=counts.drift_found + 1)
        case "drift.healed":
            return replace(counts, drift_healed=counts.drift_healed + 1)
        case "drift.failed":
            return replace(counts, drift_failed=counts.drift_failed + 1)
    return counts


def after_poll(counts: Counts, *, failed: bool) -> Counts:
    """The counts after a poll has ended. Every failure counts, also one that the log has told already."""
    return replace(counts, polls=counts.polls + 1, poll_failures=counts.poll_failures + failed)
