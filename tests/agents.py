"""An agent for tests: the real tick on a real directory, with time, chance and S3 in the test's hands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from s3sync_agent.bucket import Bucket
from s3sync_agent.counts import Counts
from s3sync_agent.instance import Instance
from s3sync_agent.outcome import Outcome
from s3sync_agent.report import Counted, Status, checked
from s3sync_agent.settings import Settings, load
from s3sync_agent.sync import Sync
from s3sync_agent.ticker import Attempt, Ticker
from s3sync_agent.webroot import Webroot
from tests.fakes import MemoryBucket
from tests.releases import NOON, SITE


class FakeClock:
    """Time that passes when the test says so; sleeping is passing."""

    def __init__(self, now: float = NOON) -> None:
        self.wall = now
        self.elapsed = 1000.0
        self.sleeps: list[float] = []

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.elapsed

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.elapsed += seconds


class Recorder:
    """Remembers what was reported; refuses, like the real one, what is not documented."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.statuses: list[Status] = []

    def event(self, name: str, **fields: Any) -> None:
        self.events.append((name, checked(name, fields)))

    def status(self, status: Status) -> None:
        self.statuses.append(status)

    def named(self, name: str) -> list[dict[str, Any]]:
        return [fields for event, fields in self.events if event == name]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]


class Elsewhere:
    """Not on EC2."""

    def whereabouts(self) -> tuple[str, str] | None:
        return None

    def is_terminating(self) -> bool:
        return False


class Agent:
    """One instance. `restart` forgets everything that is not on its disk."""

    def __init__(
        self,
        folder: Path,
        bucket: Bucket | None = None,
        clock: FakeClock | None = None,
        beat: Callable[[], None] = lambda: None,
        **settings: Any,
    ) -> None:
        self.folder = folder
        self.clock = clock or FakeClock()
        self.bucket = bucket if bucket is not None else MemoryBucket(clock=self.clock.now)
        self.beat = beat
        self.overrides = {"site": SITE.url, "state_dir": str(folder), "identity": "i-1"} | settings
        self.settings: Settings = load(config=None, environ={}, overrides=self.overrides)
        self.reporter = Recorder()
        self._begin()

    def _begin(self) -> None:
        self.webroot = Webroot(self.settings.state)
        self.instance = Instance(
            settings=self.settings,
            bucket=self.bucket,
            webroot=self.webroot,
            clock=self.clock,
            reporter=Counted(self.reporter, Counts()),
            beat=self.beat,
        )
        self.sync = Sync(self.instance)
        self.swept = self.sync.start()
        self.ticker = Ticker(self.instance, self.sync, lambda: 0.5)

    def restart(self) -> list[str]:
        self.webroot.close()
        self._begin()
        return self.swept

    def stop(self) -> None:
        self.webroot.close()

    def tick(self) -> Outcome:
        return self.sync.tick()

    def attempt(self) -> Attempt:
        return self.ticker.attempt()

    @property
    def live(self) -> dict[str, bytes]:
        """What is served: path → content."""
        root = self.settings.state.live
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }

    @property
    def assets(self) -> set[str]:
        root = self.settings.state.assets
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}

    @property
    def healthy(self) -> str:
        """The release that /healthz vouches for, or ""."""
        path = self.settings.run.healthy
        return path.read_text().strip() if path.exists() else ""
