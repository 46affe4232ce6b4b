"""Where measurements happen: one S3 server, one generated site, the installed commands as processes."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Literal

from bench import content
from s3sync_agent.webroot.staging import remove_tree
from tests.agent_process import COMMANDS, minimal
from tests.servers import S3Server, moto, seaweedfs

ServerKind = Literal["seaweedfs", "moto"]
COMMAND_SECONDS = 600.0
CHANGED = 100  # files in an update
# For run-time directories: /run, where they are in production, is memory too.
_MEMORY = Path("/dev/shm")  # noqa: S108 - the names below it are unique


@dataclass(frozen=True, slots=True)
class World:
    """`site` holds `files` files of `size` bytes in all; `runs` is how often everything is repeated."""

    server: S3Server
    folder: Path
    run_folder: Path
    site: Path
    files: int
    size: int
    runs: int
    idle_seconds: float
    _numbers: Iterator[int] = field(default_factory=count)

    def new_site(self) -> str:
        """The URL of an empty site."""
        return f"s3://{self.server.new_bucket()}/site"

    def new_instance(self, site: str, *, endpoint: str = "") -> Instance:
        """An instance that has nothing yet; it asks S3 at `endpoint`, or else directly."""
        root = self.folder / f"instance-{next(self._numbers)}"
        config = root / "etc" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(
            f'site = "{site}"\nidentity = "{root.name}"\n'
            f'state_dir = "{root / "state"}"\nrun_dir = "{self.run_folder / root.name}"\n'
        )
        environ = self.server.environment() | {"S3SYNC_CONFIG": str(config)}
        if endpoint:
            environ["AWS_ENDPOINT_URL"] = endpoint
        return Instance(root, environ)

    def environ(self, site: str) -> dict[str, str]:
        return {**self.server.environment(), "S3SYNC_SITE": site}


@dataclass(frozen=True, slots=True)
class Instance:
    """`environ` is what its agent runs with. Configuration, state and run-time directory are apart, as in
    production."""

    root: Path
    environ: dict[str, str]

    @property
    def state(self) -> Path:
        return self.root / "state"

    def run_once(self) -> float:
        """One whole tick in a process of its own; seconds, the start of Python included."""
        return timed("s3sync-agent", "run", "--once", environ=self.environ)

    def remove(self) -> None:
        remove_tree(self.root)


@contextmanager
def world(kind: ServerKind, *, files: int, runs: int, idle_seconds: float) -> Iterator[World]:
    """Everything is gone afterwards."""
    with ExitStack() as stack:
        folder = _temporary(stack, None)
        run_folder = _temporary(stack, _MEMORY if _MEMORY.is_dir() else None)
        data, site = folder / "s3", folder / "site"
        data.mkdir()
        site.mkdir()
        server = stack.enter_context(seaweedfs(data) if kind == "seaweedfs" else moto())
        size = content.write_site(site, files)
        yield World(server, folder, run_folder, site, files, size, runs, idle_seconds)


def _temporary(stack: ExitStack, parent: Path | None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="s3sync-bench-", dir=parent))
    stack.callback(remove_tree, folder)
    return folder


def timed(name: str, *arguments: str, environ: Mapping[str, str]) -> float:
    """Run one of our commands to its end; seconds. Raises RuntimeError when it fails.

    What others have written goes to the disk first, so that a durable step does not pay for it.
    """
    os.sync()
    started = time.perf_counter()
    done = subprocess.run(
        [COMMANDS / name, *arguments],
        env=minimal(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{name} {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
    return seconds
