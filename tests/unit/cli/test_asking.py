"""What `s3sync-agent` answers on an instance, in words."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from s3sync_agent.cli.agent import main
from s3sync_agent.cli.asking import describe
from s3sync_agent.counts import Counts
from s3sync_agent.fields import FIELDS, REQUIRED
from s3sync_agent.heartbeat import Failed
from tests.releases import NOON
from tests.statuses import STATUS


def test_the_status_counts_what_happened_and_leaves_out_what_never_did() -> None:
    counts = Counts(polls=12345, poll_failures=2, drift_found=1, drift_healed=1)
    said = describe(msgspec.structs.replace(STATUS, counts=counts), now=NOON)
    assert " counted  polls 12,345, failed polls 2, drifted files 1, healed files 1\n" in said


def test_an_agent_that_has_counted_nothing_says_nothing_of_it() -> None:
    assert "counted" not in describe(msgspec.structs.replace(STATUS, counts=Counts()), now=NOON)


def test_the_promotion_that_is_live_is_named() -> None:
    said = describe(msgspec.structs.replace(STATUS, promotion_id="promotion-000001"), now=NOON)
    assert " since 2026-11-22T18:15:07.000Z, promotion promotion-000001\n" in said


def test_what_could_not_be_staged_is_named_unless_it_was_already() -> None:
    failed = Failed(promotion_id="promotion-000001", release="v2-1a2b", error="DiskFull", message="full")
    status = msgspec.structs.replace(STATUS, failed=(failed,))
    assert "  failed  v2-1a2b: full\n" in describe(status, now=NOON)
    assert "failed" not in describe(msgspec.structs.replace(status, because="full"), now=NOON)


def test_every_setting_is_shown_also_one_that_is_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('site = "s3://bucket/site"\nmetrics_listen = "[::1]:9151"\n')
    monkeypatch.delenv("S3SYNC_SITE", raising=False)
    done = CliRunner().invoke(main, ["--config", str(config), "check-config"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert 'metrics_listen = "[::1]:9151"' in lines
    assert "# metrics_textfile is not set" in lines
    assert "poll_interval = 5" in lines
    for field in FIELDS:
        assert field.default is REQUIRED or any(field.name in line for line in lines)
