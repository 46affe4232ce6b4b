from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from s3sync_agent import logs
from s3sync_agent.layout import RunPaths
from s3sync_agent.report import LogAndStatusFile


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    handlers = logging.root.handlers[:]
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    logging.root.handlers[:] = handlers


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def said(stream: io.StringIO, log_format: str, reason: str = "too many directories") -> str:
    logs.configure(log_format, stream)  # type: ignore[arg-type]  # one of the three, by parametrize
    LogAndStatusFile(RunPaths(None)).event("drift.unwatched", reason=reason)  # type: ignore[arg-type]  # unused
    return stream.getvalue()


@pytest.mark.parametrize("log_format", ["json", "auto"])
def test_under_systemd_a_line_is_a_json_object_with_level_and_utc_time(log_format: str) -> None:
    line = said(io.StringIO(), log_format)
    assert line.endswith("\n")
    assert line.count("\n") == 1
    fields = json.loads(line)
    assert fields.pop("timestamp").endswith("Z")
    assert fields == {"event": "drift.unwatched", "level": "warning", "reason": "too many directories"}


def test_on_a_terminal_it_is_text_for_people() -> None:
    text = said(Terminal(), "auto")
    assert "drift.unwatched" in text
    assert "too many directories" in text
    assert not text.startswith("{")


def test_without_a_terminal_there_are_no_colours() -> None:
    assert "\x1b" not in said(io.StringIO(), "console")
    assert "\x1b" in said(Terminal(), "console")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_control_characters_are_escaped(log_format: str) -> None:
    text = said(io.StringIO(), log_format, reason="a\nlevel=info\x1b[2J\u202e\udce9")
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()


def test_a_stream_that_knows_only_ascii_still_gets_every_line() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    logs.configure("console", stream)
    LogAndStatusFile(RunPaths(None)).event("drift.unwatched", reason="ünï")  # type: ignore[arg-type]  # unused
    stream.flush()
    assert b"\\xfcn\\xef" in raw.getvalue()


def test_libraries_say_nothing_of_their_own() -> None:
    stream = io.StringIO()
    logs.configure("json", stream)
    logging.getLogger("botocore").error("their chatter")
    assert stream.getvalue() == ""
