from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from s3sync_agent.counts import Counts, after_event
from s3sync_agent.events import EVENTS

Said = tuple[str, dict[str, Any]]


@st.composite
def said(draw: st.DrawFn) -> Said:
    """One line of a log."""
    event = draw(st.sampled_from(EVENTS))
    numbers = {"bytes": st.integers(0, 10**12), "seconds": st.floats(0, 1e6), "late": st.floats(0, 1e6)}
    return event.name, {field: draw(numbers.get(field, st.just("x"))) for field in event.fields}


@given(st.lists(said(), max_size=40))
def test_who_adds_up_the_log_gets_the_same_numbers(log: list[Said]) -> None:
    counts = Counts()
    for name, fields in log:
        counts = after_event(counts, name, fields)

    def fields_of(event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in log if name == event]

    staged, activated = fields_of("stage.done"), fields_of("activate.done")
    assert counts == Counts(
        stages=len(staged),
        staged_bytes=sum(fields["bytes"] for fields in staged),
        last_stage_seconds=staged[-1]["seconds"] if staged else 0.0,
        stage_failures=len(fields_of("stage.failed")),
        activations=len(activated),
        last_activation_seconds=activated[-1]["seconds"] if activated else 0.0,
        last_activation_late=activated[-1]["late"] if activated else 0.0,
        activation_failures=len(fields_of("activate.failed")),
        denials=len(fields_of("promotion.denied")),
        fallbacks=len(fields_of("fallback.done")),
        probe_failures=len(fields_of("probe.failed")),
        heartbeat_failures=len(fields_of("heartbeat.failed")),
        drift_found=len(fields_of("drift.found")),
        drift_healed=len(fields_of("drift.healed")),
        drift_failed=len(fields_of("drift.failed")),
    )
