from __future__ import annotations

import ast
import inspect

import pytest

from s3sync_agent import counts as counts_module
from s3sync_agent.counts import Counts, after_event, after_poll
from s3sync_agent.events import BY_NAME, EVENTS

FIELDS = {"bytes": 1000, "seconds": 2.5, "late": 0.25}


def after(*names: str) -> Counts:
    counts = Counts()
    for name in names:
        event = BY_NAME[name]
        counts = after_event(counts, name, {field: FIELDS.get(field, "") for field in event.fields})
    return counts


def test_a_stage_counts_with_its_bytes_and_the_last_one_s_seconds() -> None:
    assert after("stage.begin", "stage.done", "stage.done") == Counts(
        stages=2, staged_bytes=2000, last_stage_seconds=2.5
    )


def test_an_activation_counts_with_the_last_one_s_seconds_and_lateness() -> None:
    assert after("activate.done") == Counts(
        activations=1, last_activation_seconds=2.5, last_activation_late=0.25
    )


@pytest.mark.parametrize(
    ("name", "counted"),
    [
        ("stage.failed", Counts(stage_failures=1)),
        ("activate.failed", Counts(activation_failures=1)),
        ("drift.found", Counts(drift_found=1)),
        ("drift.healed", Counts(drift_healed=1)),
        ("drift.failed", Counts(drift_failed=1)),
    ],
)
def test_what_failed_or_drifted_counts(name: str, counted: Counts) -> None:
    assert after(name) == counted


def test_polls_are_counted_apart_because_an_idle_one_is_no_event() -> None:
    polled = after_poll(after_poll(Counts(), failed=False), failed=True)
    assert polled == Counts(polls=2, poll_failures=1)
    assert after("poll.failed", "poll.recovered", "poll.changed") == Counts()


def test_every_event_that_is_counted_is_a_documented_one() -> None:
    tree = ast.parse(inspect.getsource(counts_module.after_event))
    names = {
        node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.MatchValue) and isinstance(node.value, ast.Constant)
    }
    assert names
    assert names <= {event.name for event in EVENTS}
