"""Every event the agent reports: name, level, fields, meaning. Pure.

The names are stable: people filter and alarm on them. docs/events.md is made from this table, and
reporting an event or a field that is not in it raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    level: Level
    fields: tuple[str, ...]
    doc: str


_ERROR = ("error", "message", "hint")

EVENTS: tuple[Event, ...] = (
    Event("agent.started", "info", ("version", "site", "source", "identity", "live"), "The agent begins."),
    Event("agent.stopped", "info", ("live",), "It ends, as asked; the site stays up."),
    Event("agent.swept", "info", ("count", "names"), "Leftovers of an earlier run were removed."),
    Event("config.loaded", "info", ("files", "changed"), "Settings were read again."),
    Event("config.refused", "error", _ERROR, "New settings have faults; the old ones stay in force."),
    Event("poll.changed", "info", ("sequence", "wanted", "promotion_id"), "A new pointer was accepted."),
    Event(
        "poll.failed", "warning", (*_ERROR, "retry_in"), "S3 could not be asked, or its answer was refused."
    ),
    Event("poll.recovered", "info", ("failures", "seconds"), "The first good poll after failures."),
    Event("clock.off", "warning", ("seconds",), "The system clock and S3's differ by more than 2 s."),
    Event("plain.changed", "info", ("fingerprint", "files", "settles_in"), "`current/` holds something new."),
    Event("plain.held", "warning", ("reason",), "`current/` is not something to take; the site stays."),
    Event("stage.begin", "info", ("release", "files", "linked", "bytes", "requests"), "Staging begins."),
    Event(
        "stage.done",
        "info",
        ("release", "files", "linked", "bytes", "requests", "seconds"),
        "A release is on disk, whole and verified; nothing is live yet.",
    ),
    Event(
        "stage.failed",
        "error",
        ("release", *_ERROR, "retry_in"),
        "A release could not be staged; the site stays.",
    ),
    Event(
        "activate.done",
        "info",
        ("release", "before", "at", "late", "seconds"),
        "A release went live; `late` is seconds after its instant, `seconds` how long the swap took.",
    ),
    Event("activate.failed", "error", ("release", *_ERROR), "The swap failed; the site stays."),
    Event(
        "hook.done",
        "info",
        ("hook", "release", "seconds"),
        "A [hook](hooks.md) ended with 0. `hook` is its folder and its name, `pre-activate/10-check`.",
    ),
    Event(
        "hook.vetoed",
        "error",
        ("hook", "release", "message", "output"),
        "A pre-activate hook said no: the release does not go live here. `output` is what it printed last.",
    ),
    Event(
        "hook.failed",
        "warning",
        ("hook", "release", *_ERROR, "output"),
        "A post-activate hook did not do its work; the release stays live.",
    ),
    Event(
        "probe.failed",
        "warning",
        ("release", "verdict", "reason"),
        "nginx did not answer the probe (`unanswered`), or wrongly (`wrong`).",
    ),
    Event("probe.recovered", "info", ("release",), "It answers rightly again."),
    Event(
        "promotion.denied",
        "error",
        ("promotion_id", "release", "reason"),
        "This instance does not take the promotion, now or later; promoting again is another one.",
    ),
    Event(
        "fallback.done",
        "error",
        ("release", "before", "promotion_id", "reason", "seconds"),
        "`release` is live again in place of `before`, whose probe went wrong; `seconds` after the swap.",
    ),
    Event(
        "heartbeat.failed",
        "warning",
        _ERROR,
        "The heartbeat cannot be written; nothing that is served depends on it.",
    ),
    Event("heartbeat.recovered", "info", ("seconds",), "It can again."),
    Event("prune.done", "info", ("releases",), "Old releases were removed from this instance."),
    Event(
        "drift.found", "warning", ("release", "path", "kind"), "A served file is not what its manifest says."
    ),
    Event(
        "drift.healed", "info", ("release", "path", "kind"), "A drifted file was replaced; it is right again."
    ),
    Event(
        "drift.failed",
        "error",
        ("release", "path", *_ERROR),
        "A drifted file could not be put right; it is tried again.",
    ),
    Event("drift.unwatched", "warning", ("reason",), "Files cannot be watched; they are scrubbed instead."),
    Event("scrub.done", "info", ("release", "files", "found", "seconds"), "Everything served was hashed."),
    Event("status.unwritable", "warning", ("path", "reason"), "status.json could not be written."),
    Event(
        "metrics.failed",
        "warning",
        ("to", *_ERROR),
        "Metrics cannot be handed to `textfile`, `listen` or `cloudwatch`; nothing else depends on it.",
    ),
    Event("metrics.recovered", "info", ("to", "seconds"), "They can again."),
    Event("tick.failed", "error", _ERROR, "Something else failed; nothing that is served has changed."),
)

BY_NAME = {event.name: event for event in EVENTS}
