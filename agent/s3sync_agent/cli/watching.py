"""What is shown while the fleet is watched: a line for each change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from s3sync_agent.deploy.promoter import Show
from s3sync_agent.gate import Verdict
from s3sync_agent.layout import escape


class Lines:
    """One line for each instance whenever it stands differently, on stderr: for CI."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
        self._doing = ""

    def say(self, text: str) -> None:
        click.echo(escape(text), err=True)

    def look(self, doing: str, verdict: Verdict) -> None:
        if doing != self._doing:
            self._doing, self._shown = doing, {}
        for place in verdict.places:
            line = f"{place.standing.value}: {place.why}" if place.why else place.standing.value
            if self._shown.get(place.identity) != line:
                self._shown[place.identity] = line
                click.echo(f"{doing}: {place.name} {escape(line)}", err=True)


@contextmanager
def shown() -> Iterator[Show]:
    """Somebody to tell for as long as the block runs."""
    yield Lines()
