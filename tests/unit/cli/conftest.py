from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from s3sync_agent.cli.operator import main
from tests.fakes import MemoryBucket
from tests.instances import VirtualClock
from tests.releases import PAGES, SITE

Run = Callable[..., Result]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    """The clock of the commands and of S3; nobody really sleeps."""
    clock = VirtualClock()
    monkeypatch.setattr("s3sync_agent.clock.SystemClock", lambda: clock)
    return clock


@pytest.fixture
def bucket(clock: VirtualClock) -> MemoryBucket:
    return MemoryBucket(clock=clock)


@pytest.fixture
def s3sync(bucket: MemoryBucket, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command of `s3sync` on the bucket in memory, as CI would: no terminal."""
    for name in ("GITHUB_ACTIONS", "GITHUB_SHA", "GITHUB_ACTOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("S3SYNC_SITE", SITE.url)

    def connect(name: str) -> MemoryBucket:
        assert name == SITE.bucket
        return bucket

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, prog_name="s3sync", obj=connect)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A site on disk with the files of PAGES."""
    root = tmp_path / "site"
    for path, body in PAGES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(body)
    return root
