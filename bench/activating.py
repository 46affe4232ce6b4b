"""Activation alone: how long the swap takes, and how many system calls, whatever the release's size.

Run as a program it swaps between two staged releases and prints the microseconds of every swap:

    python -m bench.activating STATE_DIR RELEASE RELEASE COUNT
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure, figure
from bench.world import World, timed
from s3sync_agent.layout import StatePaths
from s3sync_agent.webroot import Webroot

SWAPS = 100
SMALL = 10


def measure(world: World) -> Iterator[Figure]:
    strace = shutil.which("strace")
    calls_of_small = None
    for name, folder in ((f"{SMALL} files", _small_site(world)), (f"{world.files:,} files", world.site)):
        swap = _two_releases(world, folder)
        yield figure(f"activation, {name}", "µs", json.loads(_run([*swap, str(SWAPS)])))
        if strace:
            calls = _calls(strace, swap, world.folder / "strace")
            yield figure(f"activation, {name}", "calls", [calls], budget=calls_of_small)
            calls_of_small = calls


def _small_site(world: World) -> Path:
    folder = world.folder / "small"
    folder.mkdir()
    for number in range(SMALL):
        name = "index.html" if number == 0 else f"page-{number}.html"
        (folder / name).write_text(f"<h1>{number}</h1>\n")
    return folder


def _two_releases(world: World, folder: Path) -> list[str]:
    """An instance with two releases of a folder on its disk; the program that swaps between them."""
    site = world.new_site()
    instance, operator = world.new_instance(site), world.environ(site)
    for version in ("a", "b"):
        (folder / "index.html").write_text(f"<h1>{version}</h1>\n")
        timed("s3sync", "publish", str(folder), "--version", version, "--no-files", environ=operator)
        timed("s3sync", "promote", version, "--now", "--no-mirror", environ=operator)
        instance.run_once()
    releases = sorted(path.name for path in StatePaths(instance.state).releases.iterdir())
    return [sys.executable, "-m", "bench.activating", str(instance.state), *releases]


def _calls(strace: str, swap: list[str], report: Path) -> int:
    """System calls of one swap: those of many, less those of the program around them."""

    def calls(count: int) -> int:
        _run([strace, "-f", "-c", "-o", str(report), *swap, str(count)])
        total = report.read_text().splitlines()[-1].split()
        return int(total[3])

    return round((calls(SWAPS + 1) - calls(1)) / SWAPS)


def _run(command: list[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=300).stdout


def main(state: str, first: str, second: str, count: str) -> None:
    webroot = Webroot(StatePaths(Path(state)))
    microseconds = []
    for turn in range(int(count)):
        release, before = (second, first) if turn % 2 else (first, second)
        started = time.perf_counter()
        webroot.activate(webroot.arm(release, previous=before))
        microseconds.append((time.perf_counter() - started) * 1e6)
    print(json.dumps(microseconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
