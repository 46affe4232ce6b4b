"""An instance without an agent: a state directory made by hand, and real nginx in front."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from s3sync_agent.layout import StatePaths, mtime_for
from s3sync_agent.release import digest
from tests.nginx_process import Answer, Nginx, nginx_serving

NONE: Mapping[str, bytes] = {}
IMMUTABLE = "public, max-age=31536000, immutable"
ONE = "one-000000000001"
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
def serving(folder: Path, binary: Path | None = None, *, balancers: str = "") -> Iterator[Instance]:
    """nginx in front of a new instance: no release yet."""
    state, run_dir, own = StatePaths(folder / "a state; with spaces"), folder / "run", folder / "nginx"
    for directory in (state.releases, state.assets, run_dir, own):
        directory.mkdir(parents=True)
    with nginx_serving(state.root, run_dir, own, binary=binary, balancers=balancers) as server:
        yield Instance(state, run_dir, server)
