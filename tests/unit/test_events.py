from __future__ import annotations

import re
from pathlib import Path

import pytest

import s3sync_agent
from s3sync_agent.events import BY_NAME, EVENTS
from s3sync_agent.report import checked


def test_an_unknown_event_is_refused() -> None:
    with pytest.raises(KeyError):
        checked("poll.exploded", {})


def test_an_event_has_exactly_its_documented_fields() -> None:
    assert checked("clock.off", {"seconds": 3.0}) == {"seconds": 3.0}
    with pytest.raises(ValueError, match="seconds"):
        checked("clock.off", {})
    with pytest.raises(ValueError, match="colour"):
        checked("clock.off", {"seconds": 3.0, "colour": "blue"})


def test_no_field_can_forge_a_line_or_move_a_cursor() -> None:
    fields = checked("agent.swept", {"count": 1, "names": ["a\nb", "\x1b[2J\udce9"]})
    assert fields == {"count": 1, "names": ["a\\nb", "\\x1b[2J\\udce9"]}


def test_every_name_is_subject_and_past_and_stands_once() -> None:
    assert len(BY_NAME) == len(EVENTS)
    assert all(re.fullmatch(r"[a-z]+\.[a-z]+", event.name) for event in EVENTS)


# Documented for those who are about to report them; each leaves this list with its first report.
AWAITED = [
    "probe.failed", "probe.recovered", "promotion.denied", "fallback.done",
    "heartbeat.failed", "heartbeat.recovered",
]  # fmt: skip


def test_every_documented_event_is_reported_somewhere() -> None:
    source = "".join(path.read_text() for path in Path(s3sync_agent.__file__).parent.rglob("*.py"))
    assert [event.name for event in EVENTS if source.count(f'"{event.name}"') < 2] == AWAITED
