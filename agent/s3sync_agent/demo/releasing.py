"""Publishes and promotes the demo's folder with the real commands, and shows what they say."""

from __future__ import annotations

from pathlib import Path

from s3sync_agent.demo import screen
from s3sync_agent.demo.world import SITE, Ran, World

_SHOWN = 6  # warnings


class Releases:
    """Remembers which warnings were shown: they are not shown again for the next release."""

    def __init__(self, here: World, folder: Path) -> None:
        self._here = here
        self._folder = folder
        self._warned: list[str] = []

    def release(self, *, live: str) -> str:
        """Publish the folder and promote it; its version, or "" when either was refused and `live` stays."""
        s3sync = self._here.tools.s3sync
        published = self._here.run(SITE, s3sync, "publish", str(self._folder))
        if published.code:
            _refused("not published", published, live)
            return ""
        self._warn([line for line in published.stderr.splitlines() if "warning: " in line])
        version = published.stdout.strip()
        screen.happened("publish", published.stderr.splitlines()[-1].replace(" published,", ""))
        promoted = self._here.run(SITE, s3sync, "promote", version)
        if promoted.code:
            _refused("not promoted", promoted, live)
            return ""
        screen.happened("promote", promoted.stdout.strip().removeprefix("promoted ").partition(" (")[0])
        return version

    def _warn(self, warnings: list[str]) -> None:
        if warnings != self._warned:
            for line in warnings[:_SHOWN]:
                screen.warn(line)
            if len(warnings) > _SHOWN:
                screen.warn(f"and {len(warnings) - _SHOWN} more: s3sync check {self._folder}")
        self._warned = warnings


def _refused(what: str, ran: Ran, live: str) -> None:
    """The error as the command says it, and what it means for the site."""
    lines = ran.stderr.splitlines()
    first = next((number for number, line in enumerate(lines) if line.startswith("error: ")), 0)
    said = [line.removeprefix("error: ").removeprefix("hint: ") for line in lines[first:]]
    stays = f"{live} stays live" if live else "nothing is live yet"
    screen.happened(what, "\n".join([*said, stays]), colour="red")
