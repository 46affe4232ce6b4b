from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
import structlog

from s3sync_agent import logs
from s3sync_agent.layout import RunPaths
from s3sync_agent.report import LogAndStatusFile, Problem, Status, read_status, replace, set_healthy

hides_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")

STATUS = Status(
    version="1.0",
    pid=7,
    site="s3://bucket/site",
    identity="i-1",
    source="pointer",
    state="steady",
    stale=False,
    serving="v1-1a2b3c4d5e6f",
    serving_since="2026-11-22T18:15:07.000Z",
    wanted="v1-1a2b3c4d5e6f",
    behind_seconds=0.0,
    because="",
    sequence=7,
    staged=("v1-1a2b3c4d5e6f",),
    polled_at="2026-11-22T18:15:07.000Z",
    activate_at="",
    clock_offset=0.0,
    problem=Problem("StoreDenied", "no", "ask"),
)


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path)


def test_the_status_can_be_read_back(run: RunPaths) -> None:
    LogAndStatusFile(run).status(STATUS)
    assert read_status(run) == STATUS
    assert [path.name for path in run.root.iterdir()] == ["status.json"]


@pytest.mark.parametrize("raw", [b"", b"{}", b"garbage", b'{"version":"\xff"}'])
def test_a_status_that_cannot_be_read_is_none(run: RunPaths, raw: bytes) -> None:
    assert read_status(run) is None
    run.status.write_bytes(raw)
    assert read_status(run) is None


def test_healthy_is_a_file_that_names_the_release_and_is_gone_otherwise(run: RunPaths) -> None:
    set_healthy(run, None)
    set_healthy(run, "v1-1a2b3c4d5e6f")
    assert run.healthy.read_text() == "v1-1a2b3c4d5e6f\n"
    set_healthy(run, "v2-1a2b3c4d5e6f")
    assert run.healthy.read_text() == "v2-1a2b3c4d5e6f\n"
    set_healthy(run, None)
    assert not run.healthy.exists()


def test_a_file_that_cannot_be_replaced_leaves_no_rubbish_behind(run: RunPaths) -> None:
    run.status.mkdir()
    with pytest.raises(OSError, match="directory"):
        replace(run.status, b"{}")
    assert list(run.root.iterdir()) == [run.status]


def test_a_status_that_cannot_be_written_is_an_event_and_no_failure(run: RunPaths) -> None:
    run.status.mkdir()
    with structlog.testing.capture_logs() as lines:
        LogAndStatusFile(run).status(STATUS)
    assert [(line["event"], line["path"]) for line in lines] == [("status.unwritable", str(run.status))]


class Full(io.StringIO):
    def write(self, _text: str, /) -> int:
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_stops_nothing(run: RunPaths) -> None:
    logs.configure("json", Full())
    try:
        LogAndStatusFile(run).event("clock.off", seconds=3.0)
    finally:
        structlog.reset_defaults()


def test_an_event_has_the_level_of_the_table(run: RunPaths) -> None:
    with structlog.testing.capture_logs() as lines:
        LogAndStatusFile(run).event("clock.off", seconds=3.0)
    assert lines == [{"event": "clock.off", "log_level": "warning", "seconds": 3.0}]
