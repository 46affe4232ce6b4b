"""The agent's log lines as people like to read them. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from s3sync_agent.layout import escape

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One event. `at` is RFC 3339 or "", `level` as in `events.Event`; `text` is safe for a terminal."""

    at: str
    name: str
    level: str
    text: str


def read(line: str) -> Line:
    """A line of the agent's log; what is no event becomes one called `agent`."""
    try:
        fields = json.loads(line)
        at, name, level = (str(fields.pop(key)) for key in ("timestamp", "event", "level"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Line("", "agent", "warning", escape(line))
    if "message" in fields:
        text = _trouble(fields)
    elif name in _SENTENCES:
        text = _SENTENCES[name](fields)
    else:
        text = ", ".join(f"{key} {value}" for key, value in fields.items())
    return Line(at, escape(name), level, escape(text))


def brief(line: str) -> str:
    """A line of any log in little room; what is no event stays as it is."""
    event = read(line)
    return f"{event.at[11:19]}  {event.name:<15}  {event.text}" if event.at else event.text


def _trouble(fields: Fields) -> str:
    hint = f" ({fields['hint']})" if fields.get("hint") else ""
    retry = f"; again in {fields['retry_in']:g} s" if fields.get("retry_in") else ""
    return f"{fields['message']}{hint}{retry}"


def version(release: str) -> str:
    """A release's directory name → its version."""
    return str(release).rpartition("-")[0] or str(release)


def size(count: int) -> str:
    """Bytes, in the unit that reads best."""
    for limit, unit in ((1024**2, "KiB"), (1024**3, "MiB"), (1024**4, "GiB")):
        if 1024 <= count < limit:
            return f"{count / (limit / 1024):.1f} {unit}"
    return f"{count} B"


def _plural(count: int, one: str) -> str:
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


def _stage_begin(fields: Fields) -> str:
    linked = f", {fields['linked']} here already" if fields["linked"] else ""
    return f"{_plural(fields['files'], 'file')}{linked}"


def _stage_done(fields: Fields) -> str:
    requests = _plural(fields["requests"], "request")
    return f"{size(fields['bytes'])} in {requests}, verified, {fields['seconds']:.2f} s"


_SENTENCES: dict[str, Callable[[Fields], str]] = {
    "agent.started": lambda f: f"{f['version']} follows {f['site']}",
    "agent.stopped": lambda f: f"the site stays: {version(f['live'])}" if f["live"] else "nothing was live",
    "poll.changed": lambda f: f"wanted: {version(f['wanted'])}",
    "poll.recovered": lambda f: f"after {f['failures']} failures in {f['seconds']:g} s",
    "plain.changed": lambda f: f"{_plural(f['files'], 'file')} in current/, settles in {f['settles_in']:g} s",
    "plain.held": lambda f: str(f["reason"]),
    "stage.begin": _stage_begin,
    "stage.done": _stage_done,
    "activate.done": lambda f: f"live: {version(f['release'])}",
    "prune.done": lambda f: f"removed here: {', '.join(version(name) for name in f['releases'])}",
    "drift.found": lambda f: f"{f['path']} is {f['kind']}",
    "drift.healed": lambda f: f"{f['path']} is as published again",
}
