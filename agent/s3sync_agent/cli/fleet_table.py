"""The fleet in words: a row for each instance, and one sentence for all."""

from __future__ import annotations

from collections import Counter
from itertools import compress

from s3sync_agent.cli.render import age, plural
from s3sync_agent.heartbeat import STOPPED, Heartbeat
from s3sync_agent.layout import escape
from s3sync_agent.sightings import Fleet, Sighting, moment, name_of

COLUMNS = ("INSTANCE", "ZONE", "STATE", "SERVING", "SINCE", "WANTED", "BEHIND", "SEEN", "BECAUSE")
RIGHT = ("SINCE", "BEHIND", "SEEN")
NAMED = 8  # instances in a sentence; a fleet may have thousands


def table(fleet: Fleet) -> tuple[list[str], list[list[str]]]:
    """Columns and rows, without the columns in which nobody has anything to say. As instances wrote it:
    whoever prints it escapes it."""
    found = _rows(fleet)
    told = [any(row[index] for row in found) for index in range(len(COLUMNS))]
    return list(compress(COLUMNS, told)), [list(compress(row, told)) for row in found]


def _rows(fleet: Fleet) -> list[tuple[str, ...]]:
    found = [_row(fleet, sighting) for sighting in fleet.sightings]
    found += [
        (item.identity, "", "unreadable", "", "", "", "", age(fleet.now - item.written_at), item.fault)
        for item in fleet.unreadable
    ]
    return found


def _row(fleet: Fleet, sighting: Sighting) -> tuple[str, ...]:
    beat = sighting.beat
    since = moment(beat.activated_at)
    return (
        name_of(beat),
        beat.zone,
        _state(fleet, sighting),
        version(beat.serving),
        "" if since is None else age(fleet.now - since),
        "" if beat.wanted in {"", beat.serving} else version(beat.wanted),
        age(beat.behind_seconds) if beat.behind_seconds else "",
        age(fleet.now - sighting.written_at),
        _because(beat),
    )


def version(release: str) -> str:
    """The version in a release's id on an instance."""
    head, _, digest = release.rpartition("-")
    return head if len(digest) == 12 and head else release


def _state(fleet: Fleet, sighting: Sighting) -> str:
    beat = sighting.beat
    if fleet.silent(sighting):
        return f"silent (was {beat.state})"
    marks = [beat.state]
    if beat.stale:
        marks.append("stale")
    if beat.clock_offset:
        marks.append(f"clock {beat.clock_offset:+.0f} s")
    if beat.canary:
        marks.append("canary")
    return ", ".join(marks)


def _because(beat: Heartbeat) -> str:
    if beat.because:
        return beat.because
    if beat.problem is not None:
        return f"{beat.problem.error}: {beat.problem.message}"
    return ""


def summary(fleet: Fleet) -> str:
    """`5 instances: 4 serve v2, 1 serves v1; silent: i-3`. Safe to print."""
    total = len(fleet.sightings) + len(fleet.unreadable)
    if not total:
        return "no instance writes heartbeats"
    served = Counter(version(sighting.beat.serving) for sighting in fleet.sightings)
    parts = [
        f"{count} {'serves' if count == 1 else 'serve'} {which or 'nothing yet'}"
        for which, count in served.most_common(NAMED)
    ]
    odd = [
        ("silent", [name_of(sighting.beat) for sighting in fleet.sightings if fleet.silent(sighting)]),
        ("stopped", [name_of(each.beat) for each in fleet.sightings if each.beat.state == STOPPED]),
        ("cannot reach S3", [name_of(each.beat) for each in fleet.fresh() if each.beat.stale]),
        ("unreadable", [item.identity for item in fleet.unreadable]),
    ]
    notes = [f"{what}: {_some(names)}" for what, names in odd if names]
    counted = f"{plural(total, 'instance')}: {', '.join(parts)}" if parts else plural(total, "instance")
    return escape("; ".join([counted, *notes]))


def _some(names: list[str]) -> str:
    more = [f"and {len(names) - NAMED} more"] if len(names) > NAMED else []
    return ", ".join(names[:NAMED] + more)
