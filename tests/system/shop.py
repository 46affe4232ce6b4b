"""A site with everything around it: its releases, the fleet that serves them, and the audience."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from s3sync_agent.pointer import parse_time
from tests.system.agent import live
from tests.system.audience import Audience, watching
from tests.system.content import Content, content
from tests.system.group import Group
from tests.system.machine import Machine
from tests.system.site import COMMAND_SECONDS, Site

# That a busy machine may be behind an instant, and an audience behind what it sees.
LATE_SECONDS = 0.5
LOOK_EVERY = 0.05


@dataclass(slots=True)
class Shop:
    """`folder` is where releases are written before they are published. `contents` by version."""

    site: Site
    folder: Path
    group: Group
    contents: dict[str, Content] = field(default_factory=dict)

    @property
    def machines(self) -> list[Machine]:
        return self.group.machines

    def active(self) -> str:
        """The version that the pointer names."""
        return self.site.pointer().active.version

    def instant(self) -> float:
        """When everybody was meant to show what is active, in unix seconds."""
        at = self.site.pointer().active.activate_at
        assert at is not None
        return parse_time(at)

    def serving(self) -> set[str]:
        """The versions that instances serve."""
        return {live(machine) for machine in self.machines}

    def publish(self, version: str, *, without: tuple[str, ...] = (), ballast: int = 0) -> None:
        made = content(version, without=without, ballast=ballast)
        self.contents[version] = made
        self.site.publish(made.write(self.folder / version), version)

    def promote(self, *arguments: str) -> str:
        return self.site.s3sync("promote", *arguments)

    def begin(self, version: str, *options: str) -> subprocess.Popen[str]:
        """A promotion that has got as far as to tell the fleet."""
        promotion = self.site.beginning("promote", version, *options)
        self.until(lambda: self._is_told_of(version), f"for the first phase of {version}")
        return promotion

    def _is_told_of(self, version: str) -> bool:
        pointer = self.site.pointer()
        return version in {ref.version for ref in (pointer.active, pointer.prepare) if ref}

    @contextmanager
    def audience(self, scenario: str) -> Iterator[Audience]:
        balancer = self.group.balancer
        before = balancer.unhealthy()
        with watching(self.site.hub, balancer.address, self.contents, scenario) as audience:
            yield audience
        after = balancer.unhealthy()
        audience.unhealthy = {target for target in after if after[target] > before.get(target, 0)}

    def all_show(self, audience: Audience, version: str) -> bool:
        return {machine.address for machine in self.machines} <= audience.first_seen(version).keys()

    def until(self, reached: Callable[[], bool], what: str, *, seconds: float = 30.0) -> float:
        """Until `reached()`; the seconds that took."""
        started = time.monotonic()
        while not reached():
            if time.monotonic() - started > seconds:
                raise AssertionError(f"waited {seconds:.0f} s {what}")
            time.sleep(LOOK_EVERY)
        return time.monotonic() - started


def ended_well(command: subprocess.Popen[str]) -> str:
    """Its stdout. It has to succeed."""
    out, err = command.communicate(timeout=COMMAND_SECONDS)
    assert command.returncode == 0, f"exit code {command.returncode}: {out}{err}"
    return out.strip()


def moved_as_one(audience: Audience, before: str, after: str, at: float) -> float:
    """Nobody showed `after` before the instant, or `before` later. Seconds between the first page of `after`
    that an instance showed and the first of the last to show one."""
    first, last = audience.first_seen(after), audience.last_seen(before)
    assert first, f"nobody has seen {after}"
    assert {name: seen - at for name, seen in first.items() if seen < at} == {}
    assert {name: seen - at for name, seen in last.items() if seen > at + LATE_SECONDS} == {}
    return max(first.values()) - min(first.values())
