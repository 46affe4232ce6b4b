"""How the demo looks: calm lines of at most 80 columns, with colours on a terminal."""

from __future__ import annotations

import textwrap
import threading
import time
from datetime import datetime

import click

from s3sync_agent.demo import events
from s3sync_agent.layout import escape

WIDTH = 80
_NAME = 15
_LEVELS = {"warning": "yellow", "error": "red"}
_lock = threading.Lock()  # the agent's events come from a thread


def say(text: str = "") -> None:
    """A line as it is; `text` may be styled and is our own."""
    with _lock:
        click.echo(text)


def fact(label: str, text: str, note: str = "") -> None:
    """A line of what stands above or below the events."""
    shown = f"  {label:<7} {click.style(escape(text), bold=True)}"
    say(f"{shown}  {click.style(escape(note), dim=True)}" if note else shown)


def happened(name: str, text: str, *, colour: str | None = None) -> None:
    """What the demo itself did, now."""
    _line(time.strftime("%H:%M:%S"), click.style(f"{name:<{_NAME}}", fg=colour, bold=True), text)


def warn(text: str) -> None:
    happened("warning", text, colour="yellow")


def heard(line: str) -> None:
    """A line of the agent's log."""
    event = events.read(line)
    moment = datetime.fromisoformat(event.at).astimezone() if event.at else datetime.now().astimezone()
    colour = _LEVELS.get(event.level)
    name = click.style(f"{event.name:<{_NAME}}", fg=colour or "cyan")
    _line(moment.strftime("%H:%M:%S"), name, event.text)


def _line(clock: str, name: str, text: str) -> None:
    indent = " " * (8 + 2 + _NAME + 2)
    rows = [
        row
        for line in text.splitlines()
        for row in textwrap.wrap(escape(line), WIDTH - len(indent), break_on_hyphens=False)
    ] or [""]
    head = f"{click.style(clock, dim=True)}  {name}  {rows[0]}"
    say("\n".join([head, *(f"{indent}{row}" for row in rows[1:])]))
