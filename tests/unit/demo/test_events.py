from __future__ import annotations

import json

from s3sync_agent.demo import events
from s3sync_agent.events import EVENTS


def line(name: str, level: str = "info", **fields: object) -> str:
    return json.dumps({**fields, "event": name, "level": level, "timestamp": "2026-11-22T18:15:07.123456Z"})


def test_an_event_is_told_in_words() -> None:
    told = events.read(line("activate.done", release="v1-000000000001", before="", at="", late=0.0))

    assert told.text == "live: v1"


def test_an_error_is_told_with_what_to_do_about_it() -> None:
    told = events.read(
        line("poll.failed", "warning", error="X", message="no answer", hint="wait", retry_in=4.0)
    )

    assert told.text == "no answer (wait); again in 4 s"
    assert told.level == "warning"


def test_every_documented_event_can_be_told() -> None:
    values = {
        "files": 7, "linked": 6, "bytes": 2048, "requests": 1, "seconds": 0.5, "settles_in": 1.0,
        "failures": 2, "retry_in": 1.5, "releases": ["v1-000000000001"],
    }  # fmt: skip
    for event in EVENTS:
        fields = {name: values.get(name, f"<{name}>") for name in event.fields}

        told = events.read(json.dumps({**json.loads(line(event.name, event.level)), **fields}))

        assert told.name == event.name
        assert told.text


def test_what_is_no_event_is_shown_as_it_is_but_cannot_move_the_cursor() -> None:
    for text in ("Traceback \x1b[2J", "[]", '"text"', "{}", ""):
        told = events.read(text)

        assert told.name == "agent"
        assert "\x1b" not in told.text


def test_sizes_are_told_in_the_unit_that_reads_best() -> None:
    assert [events.size(n) for n in (0, 1023, 1024, 1536, 3 * 1024**2, 5 * 1024**3)] == [
        "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "3.0 MiB", "5.0 GiB",
    ]  # fmt: skip
