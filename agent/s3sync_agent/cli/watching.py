"""What is shown while the fleet is watched, on stderr: on a terminal a line for each instance, kept up to
date in its place; elsewhere a line for each change."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from s3sync_agent.deploy.promoter import Show
from s3sync_agent.gate import Place, Standing, Verdict
from s3sync_agent.layout import escape

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

# What needs somebody's eyes comes first, also where a fleet is longer than the terminal.
_ORDER = [
    Standing.DENIED,
    Standing.FAILED,
    Standing.CLOCK_OFF,
    Standing.SILENT,
    Standing.STOPPED,
    Standing.UNREADABLE,
    Standing.MISSING,
    Standing.WORKING,
    Standing.READY,
    Standing.OUTSIDE,
    Standing.NEWCOMER,
    Standing.IGNORED,
    Standing.GONE,
]
_STYLES = {
    Standing.DENIED: "bold red",
    Standing.FAILED: "bold red",
    Standing.READY: "green",
    Standing.WORKING: "cyan",
    Standing.OUTSIDE: "dim",
    Standing.NEWCOMER: "dim",
    Standing.IGNORED: "dim",
    Standing.GONE: "dim",
}  # the others: yellow


@contextmanager
def shown() -> Iterator[Show]:
    """Somebody to tell for as long as the block runs."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    try:
        from rich.console import Console  # noqa: PLC0415  # only the `deploy` extra has it
        from rich.live import Live  # noqa: PLC0415
    except ImportError:
        yield Lines()
        return
    with Live(console=Console(stderr=True), auto_refresh=False) as live:
        yield InPlace(live)


class Lines:
    """One line for each instance whenever it stands differently: for CI."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[Standing, str]] = {}
        self._doing = ""

    def say(self, text: str) -> None:
        click.echo(escape(text), err=True)

    def look(self, doing: str, verdict: Verdict) -> None:
        if doing != self._doing:
            self._doing, self._shown = doing, {}
        for place in verdict.places:
            if self._shown.get(place.identity) != _news(place):
                self._shown[place.identity] = _news(place)
                why = f": {place.why}" if place.why else ""
                click.echo(f"{doing}: {place.name} {place.standing.value}{escape(why)}", err=True)


def _news(place: Place) -> tuple[Standing, str]:
    """What has to differ for a new line. The seconds of a silence grow with every look, and are no news."""
    return place.standing, "" if place.standing is Standing.SILENT else place.why


class InPlace:
    """A table that is drawn again where it stands."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._doing = ""
        self._began = 0.0

    def say(self, text: str) -> None:
        from rich.text import Text  # noqa: PLC0415

        self._live.console.print(Text(escape(text)))  # as text: a name must not be read as markup

    def look(self, doing: str, verdict: Verdict) -> None:
        if doing != self._doing:
            self._doing, self._began = doing, time.monotonic()
        seconds = int(time.monotonic() - self._began)
        self._live.update(table(self._live.console, doing, verdict, seconds), refresh=True)


def table(console: Console, doing: str, verdict: Verdict, seconds: int) -> RenderableType:
    """As many instances as the terminal has lines for, those in trouble first."""
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    places = sorted(verdict.places, key=lambda place: (_ORDER.index(place.standing), place.identity))
    room = max(3, console.height - 4)
    rows = Table.grid(padding=(0, 2))
    rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for place in places[:room]:
        style = _STYLES.get(place.standing, "yellow")
        rows.add_row(Text(place.name), Text(place.standing.value, style=style), Text(escape(place.why)))
    waited = len(verdict.ready) + len(verdict.held_up_by) + len(verdict.ended_by)
    lacking = f", {verdict.lacking} more expected" if verdict.lacking else ""
    head = Text(f"{doing}: {len(verdict.ready)} of {waited} ready{lacking}, {seconds} s", style="bold")
    rest = Counter(place.standing.value for place in places[room:])
    more = Text("and " + ", ".join(f"{count} {standing}" for standing, count in rest.items()))
    return Group(head, rows, more) if rest else Group(head, rows)
