"""Where log lines go: JSON under systemd, text for people on a terminal."""

from __future__ import annotations

import io
import logging
import sys
from typing import TextIO

import structlog

from s3sync_agent.settings import LogFormat


def _head_first(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """When, how bad, what; then the fields: how people read a line that wraps."""
    head = {key: event.pop(key) for key in ("timestamp", "level", "event")}
    return {**head, **event}


_JSON: list[structlog.typing.Processor] = [
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _head_first,
    structlog.processors.JSONRenderer(),
]


def _console(stream: TextIO) -> list[structlog.typing.Processor]:
    """Short lines: local time, and as little padding as keeps events in a column."""
    return [
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), sort_keys=False, pad_event_to=15, pad_level=False
        ),
    ]


def configure(log_format: LogFormat, stream: TextIO) -> None:
    """Send every event to `stream`, one line each, with level and time (UTC in JSON).

    Called once, by a command; nothing configures logging at import.
    """
    if isinstance(stream, io.TextIOWrapper):  # a terminal that knows no UTF-8 still gets every line
        stream.reconfigure(errors="backslashreplace")
    as_json = log_format == "json" or (log_format == "auto" and not stream.isatty())
    structlog.configure(
        processors=[structlog.processors.add_log_level, *(_JSON if as_json else _console(stream))],
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )
    # The libraries' own chatter goes nowhere: what matters of it is in our errors.
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)
    if sys.stderr is not stream:
        logging.captureWarnings(capture=True)
