"""Where log lines go: JSON under systemd, text for people on a terminal."""

from __future__ import annotations

import io
import logging
import sys
from typing import TextIO

import structlog

from s3sync_agent.settings import LogFormat


def configure(log_format: LogFormat, stream: TextIO) -> None:
    """Send every event to `stream`, one line each, with level and UTC time.

    Called once, by a command; nothing configures logging at import.
    """
    if isinstance(stream, io.TextIOWrapper):  # a terminal that knows no UTF-8 still gets every line
        stream.reconfigure(errors="backslashreplace")
    as_json = log_format == "json" or (log_format == "auto" and not stream.isatty())
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=stream.isatty(), sort_keys=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )
    # The libraries' own chatter goes nowhere: what matters of it is in our errors.
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)
    if sys.stderr is not stream:
        logging.captureWarnings(capture=True)
