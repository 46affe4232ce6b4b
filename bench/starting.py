"""How long a person waits before a command answers at all."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figures import Figure, figure
from bench.world import World, timed

BUDGET = 0.5
RUNS = 9


def measure(_world: World) -> Iterator[Figure]:
    for name in ("s3sync", "s3sync-agent"):
        yield figure(f"{name} --help", "s", [timed(name, "--help", environ={}) for _ in range(RUNS)], BUDGET)
