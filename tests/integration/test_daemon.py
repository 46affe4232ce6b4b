"""The daemon as systemd and an operator meet it: signals, readiness, watchdog, drift, timing."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from s3sync_agent.layout import parse_site
from s3sync_agent.pointer import ReleaseRef, encode_pointer, format_time, parse_pointer, promoted
from s3sync_agent.release import digest
from tests.agent_process import command, running
from tests.integration.conftest import RARELY, LiveSite
from tests.proxy import proxied
from tests.servers import S3Server

ONE = {"index.html": "<h1>one</h1>", "assets/app-1a2b3c4d.js": "one()"}
TWO = {"index.html": "<h1>two</h1>", "assets/app-2a2b3c4d.js": "two()"}


def test_it_is_ready_when_its_first_tick_has_ended_and_says_what_it_serves(
    site: LiveSite, tmp_path: Path
) -> None:
    site.release(ONE, "v1")
    with running(site.environ, folder=tmp_path) as agent:
        agent.wait_notified("READY=1")
        assert site.live() == ONE
        assert agent.wait_notified("STATUS=").startswith("STATUS=serving v1-")
        agent.wait_notified("WATCHDOG=1")


def test_it_is_ready_even_when_its_first_tick_failed(site: LiveSite, tmp_path: Path) -> None:
    with running(site.environ | {"S3SYNC_SOURCE": "pointer"}, folder=tmp_path) as agent:
        agent.wait_notified("READY=1")
        failed = agent.wait_for("poll.failed")
        assert failed["error"] == "PointerLost"
        assert "there is no pointer" in agent.wait_notified("STATUS=serving nothing yet")


def test_a_promotion_is_served_within_a_poll(site: LiveSite, tmp_path: Path) -> None:
    site.release(ONE, "v1")
    with running(site.environ, folder=tmp_path) as agent:
        agent.wait_for("activate.done")
        site.release(TWO, "v2")
        agent.wait_for("activate.done", count=2)
        assert site.live()["index.html"] == TWO["index.html"]


def test_idle_polls_say_nothing(site: LiveSite, tmp_path: Path) -> None:
    site.release(ONE, "v1")
    with running(site.environ | {"S3SYNC_POLL_INTERVAL": "0.2"}, folder=tmp_path) as agent:
        agent.wait_for("activate.done")
        said = len(agent.events)
        for _ in range(3):
            agent.notified.clear()
            agent.wait_notified("WATCHDOG=1")
        assert agent.events[said:] == []


@pytest.mark.parametrize("wake", [signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_makes_it_ask_at_once(site: LiveSite, tmp_path: Path, wake: signal.Signals) -> None:
    site.release(ONE, "v1")
    with running(site.environ | RARELY, folder=tmp_path) as agent:
        agent.wait_for("activate.done")
        site.release(TWO, "v2")
        agent.send(wake)
        agent.wait_for("activate.done", count=2)


def test_sigterm_ends_it_within_two_seconds_and_the_site_stays(site: LiveSite, tmp_path: Path) -> None:
    site.release(ONE, "v1")
    with running(site.environ, folder=tmp_path) as agent:
        agent.wait_for("activate.done")
        assert agent.stop() < 2
        assert agent.process.returncode == 0
        agent.wait_for("agent.stopped")
        assert site.live() == ONE
        assert list((site.state / "staging").iterdir()) == []


def test_sigterm_ends_it_within_two_seconds_while_s3_does_not_answer(site: LiveSite, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with running(site.environ | {"AWS_ENDPOINT_URL": endpoint}, folder=tmp_path) as agent:
            connection, _ = silent.accept()
            assert agent.stop() < 2
            assert agent.process.returncode == 0
            connection.close()


def test_a_release_goes_live_at_its_instant_while_s3_does_not_answer(
    site: LiveSite, tmp_path: Path, moto_server: S3Server
) -> None:
    site.release(ONE, "v1")
    site.release(TWO, "v2")
    with (
        proxied(moto_server.endpoint) as proxy,
        running(site.environ | {"AWS_ENDPOINT_URL": proxy.endpoint}, folder=tmp_path) as agent,
    ):
        assert agent.wait_for("activate.done")["release"].startswith("v2-")
        _promote_for_later(site, moto_server, "v1", seconds=3)
        agent.wait_for("poll.changed", count=2)
        agent.wait_notified("STATUS=serving v2")
        proxy.hang()
        proxy.wait_for_request()
        moved = agent.wait_for("activate.done", count=2)
        assert moved["release"].startswith("v1-")
        assert moved["late"] < 0.5
        assert site.live()["index.html"] == ONE["index.html"]


def _promote_for_later(site: LiveSite, server: S3Server, version: str, *, seconds: float) -> None:
    """Promote with an instant ahead, as the two-phase promotion will."""
    where = parse_site(site.url)
    answer = server.admin.get_object(Bucket=where.bucket, Key=where.pointer)
    before = parse_pointer(answer["Body"].read()).pointer
    raw = server.admin.get_object(Bucket=where.bucket, Key=where.manifest(version))["Body"].read()
    active = ReleaseRef(
        version=version,
        manifest_sha256=digest(raw),
        manifest_size=len(raw),
        promotion_id="promotion-for-later",
        activate_at=format_time(time.time() + seconds),
    )
    after = promoted(before, site=site.url, ref=active, by="test", reason="", now=time.time())
    server.admin.put_object(Bucket=where.bucket, Key=where.pointer, Body=encode_pointer(after))


def test_drift_is_noticed_and_healed(site: LiveSite, tmp_path: Path) -> None:
    site.release(ONE, "v1")
    with running(site.environ | {"S3SYNC_POLL_INTERVAL": "3600"}, folder=tmp_path) as agent:
        agent.wait_notified("READY=1")
        page = site.state / "live" / "index.html"
        page.chmod(0o644)
        page.write_text("defaced")
        agent.wait_for("drift.healed")
        assert site.live() == ONE


def test_reading_served_files_wakes_nobody(site: LiveSite, tmp_path: Path) -> None:
    site.release(ONE, "v1")
    with running(site.environ | {"S3SYNC_POLL_INTERVAL": "3600"}, folder=tmp_path) as agent:
        agent.wait_notified("READY=1")
        before = _cpu_seconds(agent.process.pid)
        for _ in range(20_000):
            descriptor = os.open(site.state / "live" / "index.html", os.O_RDONLY)
            os.read(descriptor, 100)
            os.close(descriptor)
        assert _cpu_seconds(agent.process.pid) - before < 0.3


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_changed_configuration_file_is_taken_and_a_faulty_one_refused(
    site: LiveSite, tmp_path: Path
) -> None:
    site.release(ONE, "v1")
    config = tmp_path / "etc" / "config.toml"
    config.parent.mkdir()
    config.write_text("keep_releases = 3\n")
    environ = site.environ | {"S3SYNC_CONFIG": str(config)}
    with running(environ, folder=tmp_path) as agent:
        agent.wait_notified("READY=1")
        config.write_text("keep_releases = 4\n")
        assert agent.wait_for("config.loaded")["changed"] == ["keep_releases"]
        config.write_text("keep_releases = many\n")
        refused = agent.wait_for("config.refused")
        assert str(config) in refused["message"]
        config.write_text("keep_releases = 0\npool_interval = 3\n")
        refused = agent.wait_for("config.refused", count=2)
        assert "poll_interval" in refused["message"]
        site.release(TWO, "v2")
        agent.wait_for("activate.done", count=2)


def test_the_first_fragment_beside_the_configuration_file_is_taken_too(
    site: LiveSite, tmp_path: Path
) -> None:
    site.release(ONE, "v1")
    config = tmp_path / "etc" / "config.toml"
    (config.parent / "config.d").mkdir(parents=True)
    config.touch()
    with running(site.environ | {"S3SYNC_CONFIG": str(config)}, folder=tmp_path) as agent:
        agent.wait_notified("READY=1")
        (config.parent / "config.d" / "50-user-data.toml").write_text('identity = "web-1"\n')
        assert agent.wait_for("config.loaded")["changed"] == ["identity"]


def test_a_second_agent_on_the_same_directory_is_refused(site: LiveSite, tmp_path: Path) -> None:
    site.release(ONE, "v1")
    with running(site.environ, folder=tmp_path) as agent:
        agent.wait_notified("READY=1")
        second = command("s3sync-agent", "run", "--once", environ=site.environ)
        assert second.returncode == 2
        assert "another agent" in second.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_started_by_root_it_becomes_the_owner_of_the_state_directory(site: LiveSite, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            pytest.skip(f"{folder} is closed to other users")
    site.release(ONE, "v1")
    site.state.mkdir()
    os.chown(site.state, 65534, 65534)
    done = command("s3sync-agent", "run", "--once", environ=site.environ)
    assert done.returncode == 0, done.stderr
    assert (site.state / "live" / "index.html").stat().st_uid == 65534


def test_the_status_command_says_what_the_log_says(site: LiveSite, tmp_path: Path) -> None:
    site.release(ONE, "v1")
    with running(site.environ, folder=tmp_path) as agent:
        release = agent.wait_for("activate.done")["release"]
        agent.wait_notified("READY=1")
        said = command("s3sync-agent", "status", environ=site.environ).stdout
        assert f"serving  {release} since" in said
        assert "wanted  the same" in said
