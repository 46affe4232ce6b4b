"""Swapping what is live, and remembering what was swapped.

Everything slow has happened before; the swap itself is one rename.
"""

from __future__ import annotations

import contextlib

from s3sync_agent.instance import Instance
from s3sync_agent.machine import Step
from s3sync_agent.pointer import format_time
from s3sync_agent.webroot import Armed, disk_errors


class Swapper:
    """Any thread; whoever decides what to swap to holds `instance.swap` from the decision to the swap."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._armed: tuple[str | None, Armed] | None = None  # and what was live when it was armed
        self.left: str | None = None  # by the latest activation

    def arm(self, release: str) -> None:
        """Do now what an activation of `release` would do before its rename. Raises StagingError."""
        instance = self._instance
        with instance.swap:
            live = instance.webroot.live()
            if self._armed is not None and (self._armed[0], self._armed[1].release) == (live, release):
                return
            self._take_armed(live, release)
            with disk_errors(release):
                self._armed = (live, instance.webroot.arm(release, previous=self._good(live)))

    def activate(self, release: str, promotion: str, *, due: float | None) -> None:
        """Serve `release` from now on, which should have happened at `due` (unix seconds; None: now)."""
        instance = self._instance
        with instance.swap:
            before = instance.webroot.live()
            instance.step(Step.ACTIVATE)
            started = instance.clock.monotonic()
            now = self._swap(release, promotion, previous=self._good(before))
            self.left = before
            took = instance.clock.monotonic() - started
        instance.reporter.event(
            "activate.done",
            release=release,
            before=before or "",
            at=format_time(now),
            late=round(max(0.0, now - due), 4) if due is not None else 0.0,
            seconds=round(took, 4),
        )

    def go_back(self, release: str, promotion: str) -> float:
        """Serve `release` again in place of one that answers wrongly; for how many seconds that was live, 0
        when nobody knows. What is left is not good, so `previous` stays as it is."""
        with self._instance.swap:
            since = self._instance.memory.serving_since
            now = self._swap(release, promotion, previous=None)
            return max(0.0, now - since) if since else 0.0

    def _swap(self, release: str, promotion: str, *, previous: str | None) -> float:
        """Swap, and remember it; the moment of the swap in unix seconds."""
        instance = self._instance
        before = instance.webroot.live()
        with disk_errors(release):
            armed = self._take_armed(before, release) or instance.webroot.arm(release, previous=previous)
            now = instance.clock.now()
            instance.webroot.activate(armed)
            retired = {k: v for k, v in instance.memory.retired.items() if k != release}
            if before is not None:
                retired[before] = now
            instance.note(serving=release, serving_promotion=promotion, serving_since=now, retired=retired)
        return now

    def _take_armed(self, live: str | None, release: str) -> Armed | None:
        """What lies ready for this very swap; anything else is dropped."""
        armed, self._armed = self._armed, None
        if armed is None:
            return None
        if armed[0] == live and armed[1].release == release and armed[1].link.is_symlink():
            return armed[1]
        with contextlib.suppress(OSError):  # swept at the next start
            self._instance.webroot.disarm(armed[1])
        return None

    def _good(self, live: str | None) -> str | None:
        """What may become `previous`: what is live, when its probe was good."""
        memory = self._instance.memory
        return live if live is not None and memory.serving_promotion in memory.good else None
