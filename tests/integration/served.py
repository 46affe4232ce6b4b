"""An instance without an agent: a state directory made by hand, and real nginx in front."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3sync_agent.layout import StatePaths, mtime_for
from s3sync_agent.release import digest
from tests.nginx_process import Answer, Nginx, Render, nginx_serving

NONE: Mapping[str, bytes] = {}
IMMUTABLE = "public, max-age=31536000, immutable"
ONE = "one-000000000001"
LOG_SECONDS = 10.0
TWO = "two-000000000002"


@dataclass(frozen=True)
class Instance:
    """A state directory made by hand, as the agent would leave it, with nginx in front."""

    state: StatePaths
    run_dir: Path
    nginx: Nginx

    def add(self, release: str, pages: Mapping[str, bytes], assets: Mapping[str, bytes] = NONE) -> None:
        tree = self.state.release(release)
        for path, content in {**pages, **assets}.items():
            file = tree / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            os.utime(file, (0, mtime_for(digest(content))))
        for path in assets:
            link = self.state.assets / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(tree / path)

    def swap(self, release: str) -> None:
        link = self.state.root / "live.new"
        link.symlink_to(f"releases/{release}")
        link.rename(self.state.live)

    def get(self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        return self.nginx.get(path, method=method, headers=headers)


@contextmanager
def serving(
    folder: Path, binary: Path | None = None, *, balancers: str = "", others: Render | None = None
) -> Iterator[Instance]:
    """nginx in front of a new instance: no release yet."""
    state, run_dir = directories(folder)
    own = folder / "nginx"
    own.mkdir()
    with nginx_serving(state.root, run_dir, own, binary=binary, balancers=balancers, others=others) as server:
        yield Instance(state, run_dir, server)


def directories(folder: Path) -> tuple[StatePaths, Path]:
    """The two of one site, empty."""
    state, run_dir = StatePaths(folder / "a state; with spaces"), folder / "run"
    for directory in (state.releases, state.assets, run_dir):
        directory.mkdir(parents=True)
    return state, run_dir


def log_lines(log: Path, count: int) -> list[dict[str, Any]]:
    """The first `count` lines of an access log, as soon as they are there: a visitor is answered before."""
    deadline = time.monotonic() + LOG_SECONDS
    while len(lines := log.read_bytes().splitlines(keepends=True)) < count:
        assert time.monotonic() < deadline, f"{len(lines)} of {count} lines within {LOG_SECONDS} s"
        time.sleep(0.01)
    assert all(line.endswith(b"\n") for line in lines)
    return [json.loads(line.decode(errors="replace")) for line in lines[:count]]
