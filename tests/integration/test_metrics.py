"""A real agent's metrics: the same numbers everywhere, and nothing that hangs there disturbs it."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from s3sync_agent.layout import parse_site
from tests.agent_process import WAIT_SECONDS, AgentProcess, command, running
from tests.integration.conftest import RARELY, LiveSite
from tests.servers import S3Server, free_ports

ONE = {"index.html": "<h1>one</h1>", "assets/app-1a2b3c4d.js": "one()"}
TWO = {"index.html": "<h1>two</h1>", "assets/app-2a2b3c4d.js": "two()"}

Numbers = dict[str, float]


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT_SECONDS)
        yield server


def eventually(reached: Callable[[], bool], *, seconds: float = WAIT_SECONDS) -> None:
    """What a file or an endpoint says cannot be awaited, only looked at again."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "not within the limit"
        time.sleep(0.05)


def numbers(text: str) -> Numbers:
    """Name → value of the metrics without labels but the site."""
    families = text_string_to_metric_families(text)
    return {s.name: s.value for family in families for s in family.samples if set(s.labels) == {"site"}}


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        body: bytes = answer.read()
    return body.decode()


def listens(port: int) -> bool:
    try:
        return bool(scrape(port))
    except OSError:
        return False


def status(site: LiveSite) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        command("s3sync-agent", "status", "--json", environ=site.environ).stdout
    )
    return found


def total(agent: AgentProcess, event: str, field: str) -> float:
    return float(sum(said[field] for said in agent.events if said["event"] == event))


def test_log_status_file_and_endpoint_tell_the_same_numbers(
    site: LiveSite, tmp_path: Path, port: int
) -> None:
    text = tmp_path / "run" / "s3sync.prom"
    environ = site.environ | RARELY
    environ |= {"S3SYNC_METRICS_LISTEN": f"127.0.0.1:{port}", "S3SYNC_METRICS_TEXTFILE": str(text)}
    site.release(ONE, "v1")
    with running(environ, folder=tmp_path) as agent:
        agent.wait_for("activate.done")
        site.release(TWO, "v2")
        agent.send(signal.SIGUSR1)
        swap = agent.wait_for("activate.done", count=2)
        eventually(lambda: status(site)["counts"]["activations"] == 2)
        counts = status(site)["counts"]
        # At once, and not with the next of its rounds.
        eventually(lambda: numbers(text.read_text())["s3sync_activations_total"] == 2, seconds=5)
        scraped = numbers(scrape(port))
        for found in (scraped, numbers(text.read_text())):
            assert found["s3sync_polls_total"] == counts["polls"] == 2
            assert found["s3sync_stages_total"] == counts["stages"] == 2
            assert found["s3sync_staged_bytes_total"] == total(agent, "stage.done", "bytes")
            assert found["s3sync_last_activation_seconds"] == swap["seconds"] > 0
            assert found["s3sync_healthy"] == 1
        about = 'site="{}",state="steady"'.format(site.environ["S3SYNC_SITE"])
        assert f"s3sync_state{{{about}}} 1.0" in scrape(port)
        assert text.stat().st_mode & 0o777 == 0o644
        assert agent.stop() < 2
        assert not text.exists()


def test_being_behind_grows_while_one_looks(
    site: LiveSite, tmp_path: Path, moto_server: S3Server, port: int
) -> None:
    site.release(ONE, "v1")
    environ = site.environ | {"S3SYNC_METRICS_LISTEN": f"127.0.0.1:{port}"}
    with running(environ | RARELY, folder=tmp_path) as agent:
        agent.wait_notified("READY=1")
        assert numbers(scrape(port))["s3sync_behind_seconds"] == 0
        site.write(TWO)
        site.s3sync("publish", str(site.folder), "--version", "v2", "--no-files")
        _damage_pack(site, moto_server, "v2")
        site.s3sync("promote", "v2", "--now", "--no-mirror")
        agent.send(signal.SIGUSR1)
        agent.wait_for("stage.failed")
        eventually(lambda: numbers(scrape(port))["s3sync_behind_seconds"] > 0)
        before = numbers(scrape(port))["s3sync_behind_seconds"]
        eventually(lambda: numbers(scrape(port))["s3sync_behind_seconds"] > before)


def _damage_pack(site: LiveSite, server: S3Server, version: str) -> None:
    """It loses its bytes, not its length."""
    where = parse_site(site.url)
    listed = server.admin.list_objects_v2(Bucket=where.bucket, Prefix=f"{where.prefix}/releases/{version}/")
    (pack,) = [entry for entry in listed["Contents"] if entry["Key"].endswith(".pack")]
    server.admin.put_object(Bucket=where.bucket, Key=pack["Key"], Body=b"\0" * pack["Size"])


def test_a_cloudwatch_that_hangs_delays_neither_an_activation_nor_the_end(
    site: LiveSite, tmp_path: Path, silent: socket.socket
) -> None:
    site.release(ONE, "v1")
    environ = site.environ | {
        "S3SYNC_CLOUDWATCH_NAMESPACE": "s3sync",
        "AWS_ENDPOINT_URL_CLOUDWATCH": f"http://127.0.0.1:{silent.getsockname()[1]}",
    }
    with running(environ, folder=tmp_path) as agent:
        connection, _ = silent.accept()
        with connection:
            agent.wait_for("activate.done")
            site.release(TWO, "v2")
            agent.wait_for("activate.done", count=2)
            assert site.live()["index.html"] == TWO["index.html"]
            agent.wait_notified("WATCHDOG=1")
            assert agent.stop() < 2
            assert agent.process.returncode == 0
        agent.wait_for("agent.stopped")


def test_a_cloudwatch_that_is_not_there_is_one_event(site: LiveSite, tmp_path: Path) -> None:
    site.release(ONE, "v1")
    environ = site.environ | {
        "S3SYNC_CLOUDWATCH_NAMESPACE": "s3sync",
        "AWS_ENDPOINT_URL_CLOUDWATCH": "http://127.0.0.1:9",
    }
    with running(environ, folder=tmp_path) as agent:
        failed = agent.wait_for("metrics.failed")
        assert (failed["to"], failed["error"]) == ("cloudwatch", "MetricsNotTaken")
        assert failed["hint"]
        agent.wait_for("activate.done")


def test_a_port_in_use_and_a_file_that_cannot_be_written_keep_no_site_from_being_served(
    site: LiveSite, tmp_path: Path, port: int
) -> None:
    site.release(ONE, "v1")
    (tmp_path / "s3sync.prom").mkdir()
    environ = site.environ | {
        "S3SYNC_METRICS_LISTEN": f"127.0.0.1:{port}",
        "S3SYNC_METRICS_TEXTFILE": str(tmp_path / "s3sync.prom"),
    }
    with (
        socket.create_server(("127.0.0.1", port)),
        running(environ, folder=tmp_path) as agent,
    ):
        agent.wait_for("metrics.failed", count=2)
        agent.wait_for("activate.done")
        failed = {said["to"] for said in agent.events if said["event"] == "metrics.failed"}
        assert failed == {"listen", "textfile"}
        assert site.live() == ONE


def test_changed_settings_move_the_metrics_and_keep_what_was_counted(
    site: LiveSite, tmp_path: Path, port: int
) -> None:
    site.release(ONE, "v1")
    other = free_ports(1)[0]
    config = tmp_path / "etc" / "config.toml"
    config.parent.mkdir()
    config.write_text(f'metrics_listen = "127.0.0.1:{port}"\n')
    with running(site.environ | {"S3SYNC_CONFIG": str(config)}, folder=tmp_path) as agent:
        agent.wait_notified("READY=1")
        eventually(lambda: listens(port))
        config.write_text(f'metrics_listen = "127.0.0.1:{other}"\nkeep_releases = 4\n')
        assert "metrics_listen" in agent.wait_for("config.loaded")["changed"]
        eventually(lambda: listens(other) and not listens(port))
        assert numbers(scrape(other))["s3sync_activations_total"] == 1
        config.write_text("keep_releases = 4\n")
        agent.wait_for("config.loaded", count=2)
        eventually(lambda: not listens(other))
        assert [said for said in agent.events if said["event"] == "metrics.failed"] == []
