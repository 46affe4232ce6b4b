"""`make bench`: measure, print the table, keep the figures. `--write` puts them into docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import activating, idling, machine, releasing, starting
from bench.figures import Figure, as_markdown, as_text, row
from bench.world import World, world

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"

MEASUREMENTS: tuple[Callable[[World], Iterator[Figure]], ...] = (
    releasing.measure,
    activating.measure,
    idling.measure,
    starting.measure,
)


def main() -> None:
    asked = _arguments()
    files, runs, idle_seconds = (1_000, 3, 20.0) if asked.quick else (10_000, 5, 60.0)
    if asked.quick:
        print("--quick: 1,000 files instead of 10,000, and fewer runs", file=sys.stderr)
    os.chdir(ROOT)
    figures: list[Figure] = []
    with world(asked.server, files=files, runs=runs, idle_seconds=idle_seconds) as place:
        facts = machine.describe(place.folder, asked.server)
        facts["site"] = f"{place.files:,} files, {place.size / 1e6:.0f} MB, generated"
        try:
            for measure in MEASUREMENTS:
                for figure in measure(place):
                    figures.append(figure)
                    print(f"{figure.what}: {figure.median:.4g} {figure.unit}", file=sys.stderr, flush=True)
        finally:  # what was measured before something failed took minutes
            _show(facts, figures)
    if asked.write:
        PAGE.write_text(_page(facts, figures) + _fleet(PAGE.read_text()))
        print(PAGE.relative_to(ROOT))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 files, fewer runs")
    parser.add_argument("--server", choices=("seaweedfs", "moto"), default="seaweedfs")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    return parser.parse_args()


def _show(facts: dict[str, str], figures: Sequence[Figure]) -> None:
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()), end="\n\n")
    print(as_text([row(figure) for figure in figures]))
    print(f"\n{_keep(facts, figures).relative_to(ROOT)}")


def _keep(facts: dict[str, str], figures: Sequence[Figure]) -> Path:
    """Write everything as JSON, raw samples included."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    document = {"machine": facts, "figures": [figure.as_json() for figure in figures]}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return path


def _page(facts: dict[str, str], figures: Sequence[Figure]) -> str:
    machine_list = "\n".join(f"- {name}: {fact}" for name, fact in facts.items())
    return f"""\
# Benchmarks

`make bench` measures this on your machine, `make bench ARGS=--quick` in a few minutes with 1,000 files;
`--write` makes this page. Every figure is the median of its runs, and judged by it; what is counted is
judged by the worst run. No wall-clock time makes a test fail.

{as_markdown([row(figure) for figure in figures])}

## On what

{machine_list}

## How

- Publishing, cold start, updates and rollbacks are the installed commands, each in a process of its own: the
  start of Python is in every figure. Files are in the page cache, and what was written before is on the
  disk before the clock starts.
- Time is taken on an instance that asks S3 directly, requests are counted on a second one through a counting
  proxy. S3 is on loopback: a real one adds its latency to every request.
- A no-op poll is the daemon polling five times a second; its CPU time is the kernel's for the whole process,
  divided by the requests that arrived.
- Memory is resident memory (1 MB = 10⁶ bytes) of the daemon that has just fetched the whole site.
- An activation is the two links `previous` and `live` with their `fsync`, by the agent's own code, between
  two staged releases. System calls are counted by strace over 100 of them.
"""


def _fleet(page: str) -> str:
    """What stands there of bench/fleet.py, which has a page's end of its own."""
    _, heading, rest = page.partition("\n## A fleet\n")
    return heading + rest


if __name__ == "__main__":
    main()
