from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import msgspec
import pytest
import structlog

from s3sync_agent import logs
from s3sync_agent.counts import Counts
from s3sync_agent.layout import RunPaths
from s3sync_agent.report import (
    Counted,
    LogAndStatusFile,
    read_status,
    replace,
    set_healthy,
)
from tests.agents import Recorder
from tests.statuses import STATUS

hides_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path)


def test_the_status_can_be_read_back(run: RunPaths) -> None:
    LogAndStatusFile(run).status(STATUS)
    assert read_status(run) == STATUS
    assert [path.name for path in run.root.iterdir()] == ["status.json"]


def test_the_status_of_an_agent_that_did_not_count_can_be_read(run: RunPaths) -> None:
    fields = msgspec.to_builtins(STATUS)
    del fields["counts"], fields["healthy"]
    run.status.write_bytes(msgspec.json.encode(fields))
    assert read_status(run) == msgspec.structs.replace(STATUS, counts=Counts(), healthy=False)


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


def test_what_is_reported_is_counted_and_passed_on() -> None:
    told: list[str] = []
    recorder = Recorder()
    counted = Counted(recorder, Counts(polls=7), told=lambda: told.append("told"))
    counted.polled(failed=True)
    counted.event("drift.found", release="v1", path="index.html", kind="changed")
    assert (recorder.names, recorder.statuses, told) == (["drift.found"], [], [])
    counted.status(STATUS)
    assert (recorder.statuses, told) == ([STATUS], ["told"])
    assert counted.counts == Counts(polls=8, poll_failures=1, drift_found=1)


def test_an_event_that_is_not_documented_is_not_counted() -> None:
    counted = Counted(Recorder(), Counts())
    with pytest.raises(ValueError, match="path"):
        counted.event("drift.found", release="v1")
    assert counted.counts == Counts()


def test_reports_of_many_threads_are_all_counted() -> None:
    counted = Counted(Recorder(), Counts())

    def report() -> None:
        for _ in range(500):
            counted.polled(failed=False)

    threads = [threading.Thread(target=report) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert counted.counts.polls == 2000
