"""The fleet of bench/fleet.py, small: what a promotion asks of S3 is counted, no time is judged."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from bench.fleet import describe, measure, percentile
from s3sync_agent.layout import parse_site
from tests.servers import S3Server

AGENTS = 3
ROUNDS = 2


@pytest.mark.timeout(120)
def test_what_a_promotion_asks_of_s3(
    moto_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in moto_server.environment().items():
        monkeypatch.setenv(name, value)
    measured = measure(
        parse_site(f"s3://{moto_server.new_bucket()}/site"),
        tmp_path,
        agents=AGENTS,
        processes=2,
        rounds=ROUNDS,
        poll_interval=0.5,
        idle_seconds=0.0,
    )
    asked: Counter[str] = Counter()
    for one in measured.rounds:
        asked.update(one.asked)
        assert len(one.swaps) == AGENTS
        assert one.operator["PUT pointer"] == 2  # prepare, activate
    # Every instance fetches a release once, and tells at least that it has staged it and that it serves it.
    assert asked["GET manifest"] == asked["GET pack"] == AGENTS * ROUNDS
    assert asked["PUT heartbeat"] >= AGENTS * ROUNDS * 2
    # It sees both pointers, and looks once more after the instant.
    assert asked["GET pointer"] >= AGENTS * ROUNDS * 3
    assert set(asked) == {"GET manifest", "GET pack", "GET pointer", "PUT heartbeat"}
    assert "All share one clock" in describe(measured)


def test_a_percentile_is_one_of_the_samples() -> None:
    samples = [float(number) for number in range(1, 201)]
    assert percentile(samples, 50) == 100
    assert percentile(samples, 99) == 198
    assert percentile([7.0], 99) == 7
