"""Heartbeats of the real agent in a real S3 server: written, rewritten, left behind, and in nobody's way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from s3sync_agent.heartbeat import Heartbeat, parse_heartbeat
from s3sync_agent.layout import parse_site
from tests.agent_process import command, running
from tests.integration.conftest import LiveSite
from tests.metadata_service import metadata_service
from tests.proxy import proxied
from tests.servers import READABLE_BUCKET, READER, S3Server

ONE = {"index.html": "<h1>one</h1>"}
TWO = {"index.html": "<h1>two</h1>"}
WAIT = 10.0


def heartbeats(server: S3Server, url: str) -> dict[str, Heartbeat]:
    """All of a site, by identity."""
    where = parse_site(url)
    listed = server.admin.list_objects_v2(Bucket=where.bucket, Prefix=where.fleet).get("Contents", [])
    found = {}
    for item in listed:
        identity = item["Key"].removeprefix(where.fleet).removesuffix(".json")
        with suppress(server.admin.exceptions.NoSuchKey):  # removed meanwhile
            raw = server.admin.get_object(Bucket=where.bucket, Key=item["Key"])["Body"].read()
            found[identity] = parse_heartbeat(raw, identity=identity)
    return found


@pytest.fixture
def environ(site: LiveSite) -> dict[str, str]:
    return site.environ | {"S3SYNC_IDENTITY": "i-1"}


@pytest.fixture
def until(moto_server: S3Server, site: LiveSite) -> Callable[[str, Callable[[Heartbeat], bool]], Heartbeat]:
    """Until an instance's heartbeat is as it should be."""

    def until(identity: str, reached: Callable[[Heartbeat], bool]) -> Heartbeat:
        deadline = time.monotonic() + WAIT
        while True:
            found = heartbeats(moto_server, site.url)
            if identity in found and reached(found[identity]):
                return found[identity]
            assert time.monotonic() < deadline, found
            time.sleep(0.05)  # nobody tells about a write in S3

    return until


Until = Callable[[str, Callable[[Heartbeat], bool]], Heartbeat]


def test_an_agent_tells_what_it_serves_what_it_has_staged_and_when_it_will_ask_again(
    site: LiveSite, environ: dict[str, str], until: Until, tmp_path: Path
) -> None:
    site.release(ONE, "v1")
    with running(environ, folder=tmp_path) as agent:
        live = agent.wait_for("activate.done")
        beat = until("i-1", lambda beat: beat.state == "steady")
        assert beat.serving == beat.wanted == live["release"]
        assert beat.activated_at == live["at"]
        assert beat.healthy
        assert beat.good
        assert beat.sequence
        assert [item.promotion_id for item in beat.staged] == [beat.promotion_id]
        assert beat.polled_at < beat.next_poll_at
        assert beat.written_at >= beat.polled_at
        assert beat.stage_seconds > 0
        assert beat.poll_interval == 0.5
        assert (beat.instance_id, beat.zone) == ("", "")


def test_a_change_is_told_long_before_the_interval_ends(
    site: LiveSite, environ: dict[str, str], until: Until, tmp_path: Path
) -> None:
    site.release(ONE, "v1")
    with running(environ, folder=tmp_path) as agent:
        agent.wait_for("activate.done")
        before = until("i-1", lambda beat: beat.state == "steady")
        site.release(TWO, "v2")
        release = agent.wait_for("activate.done", count=2)["release"]
        after = until("i-1", lambda beat: beat.serving == release)
        assert after.sequence > before.sequence
        assert after.promotion_id != before.promotion_id
        assert {item.version for item in after.staged} == {"v1", "v2"}  # the baseline, too


def test_a_release_that_cannot_be_staged_is_told_with_its_promotion(
    site: LiveSite, environ: dict[str, str], until: Until, moto_server: S3Server, tmp_path: Path
) -> None:
    site.release(ONE, "v1")
    with running(environ, folder=tmp_path) as agent:
        agent.wait_for("activate.done")
        site.write(TWO)
        site.s3sync("publish", str(site.folder), "--version", "v2")
        where = parse_site(site.url)
        packs = moto_server.admin.list_objects_v2(
            Bucket=where.bucket, Prefix=where.release("v2") + ".s3sync/"
        )
        (pack,) = (item for item in packs["Contents"] if item["Key"].endswith(".pack"))
        moto_server.admin.put_object(Bucket=where.bucket, Key=pack["Key"], Body=b"\0" * pack["Size"])
        words = ("promote", "v2", "--now", "--no-mirror", "--on-failure", "hold")
        assert command("s3sync", *words, environ=site.environ).returncode == 6
        agent.wait_for("stage.failed")
        beat = until("i-1", lambda beat: bool(beat.failed))
        (failed,) = beat.failed
        assert failed.release.startswith("v2-")
        assert failed.error == "DigestMismatch"
        assert beat.promotion_id != failed.promotion_id
        assert [item.version for item in beat.staged] == ["v1"]


def test_sigterm_leaves_the_word_that_it_stopped_and_a_restart_follows_at_once(
    site: LiveSite, environ: dict[str, str], until: Until, moto_server: S3Server, tmp_path: Path
) -> None:
    site.release(ONE, "v1")
    with running(environ, folder=tmp_path) as agent:
        live = agent.wait_for("activate.done")["release"]
        until("i-1", lambda beat: beat.state == "steady")
        assert agent.stop() < 2
        beat = heartbeats(moto_server, site.url)["i-1"]
        assert (beat.state, beat.serving) == ("stopped", live)
    with running(environ, folder=tmp_path):
        until("i-1", lambda beat: beat.state == "steady")


def test_kill_9_leaves_what_was_said_last(
    site: LiveSite, environ: dict[str, str], until: Until, moto_server: S3Server, tmp_path: Path
) -> None:
    site.release(ONE, "v1")
    with running(environ, folder=tmp_path) as agent:
        said = until("i-1", lambda beat: beat.state == "steady")
        agent.send(signal.SIGKILL)
        agent.process.wait(WAIT)
        assert heartbeats(moto_server, site.url)["i-1"] == said


def test_sigterm_ends_it_within_two_seconds_while_its_heartbeat_hangs(
    site: LiveSite, environ: dict[str, str], until: Until, moto_server: S3Server, tmp_path: Path
) -> None:
    site.release(ONE, "v1")
    slow = {"S3SYNC_POLL_INTERVAL": "3600", "S3SYNC_HEARTBEAT_INTERVAL": "1"}
    with (
        proxied(moto_server.endpoint) as proxy,
        running(environ | slow | {"AWS_ENDPOINT_URL": proxy.endpoint}, folder=tmp_path) as agent,
    ):
        until("i-1", lambda beat: beat.state == "steady")
        proxy.hang()
        proxy.wait_for_request()
        assert agent.stop() < 2
        assert agent.process.returncode == 0
        agent.wait_for("agent.stopped")


def test_sigterm_ends_it_within_two_seconds_while_only_the_last_heartbeat_hangs(
    site: LiveSite, environ: dict[str, str], until: Until, moto_server: S3Server, tmp_path: Path
) -> None:
    site.release(ONE, "v1")
    slow = {"S3SYNC_POLL_INTERVAL": "3600", "S3SYNC_HEARTBEAT_INTERVAL": "3600"}
    with (
        proxied(moto_server.endpoint) as proxy,
        running(environ | slow | {"AWS_ENDPOINT_URL": proxy.endpoint}, folder=tmp_path) as agent,
    ):
        until("i-1", lambda beat: beat.state == "steady")
        proxy.hang()
        assert agent.stop() < 2
        assert agent.process.returncode == 0
        assert proxy.held == 1


def test_an_agent_that_may_not_write_its_heartbeat_serves_all_the_same(
    seaweedfs: S3Server, site: LiveSite, tmp_path: Path
) -> None:
    """With a key that may only read."""
    seaweedfs.admin.create_bucket(Bucket=READABLE_BUCKET)  # it may be there
    url = f"s3://{READABLE_BUCKET}/{os.urandom(8).hex()}"
    admin = site.environ | seaweedfs.environment() | {"S3SYNC_SITE": url}
    readable = LiveSite(url, site.folder, site.state, admin)
    readable.release(ONE, "v1")
    with running(
        admin | seaweedfs.environment(READER) | {"S3SYNC_IDENTITY": "i-1"}, folder=tmp_path
    ) as agent:
        failed = agent.wait_for("heartbeat.failed")
        assert failed["error"] == "StoreDenied"
        assert f"{url}/fleet/i-1.json" in failed["message"]
        readable.release(TWO, "v2")
        agent.wait_for("activate.done", count=2)
        assert agent.stop() < 2
        assert len([event for event in agent.events if event["event"] == "heartbeat.failed"]) == 1


def test_another_identity_takes_the_place_of_the_old_one(
    site: LiveSite, environ: dict[str, str], until: Until, moto_server: S3Server, tmp_path: Path
) -> None:
    site.release(ONE, "v1")
    config = tmp_path / "etc" / "config.toml"
    config.parent.mkdir()
    config.write_text('identity = "web-1"\n')
    environ = site.environ | {"S3SYNC_CONFIG": str(config)}
    with running(environ, folder=tmp_path):
        until("web-1", lambda beat: beat.state == "steady")
        config.write_text('identity = "web-2"\n')
        until("web-2", lambda beat: beat.state == "steady")
        assert set(heartbeats(moto_server, site.url)) == {"web-2"}
        config.write_text('identity = "web-2"\nheartbeat_interval = 0\n')
        deadline = time.monotonic() + WAIT
        while heartbeats(moto_server, site.url):
            assert time.monotonic() < deadline
            time.sleep(0.05)  # as above


def test_on_ec2_it_says_where_it_is_and_takes_its_heartbeat_with_it_when_it_is_terminated(
    site: LiveSite, environ: dict[str, str], until: Until, moto_server: S3Server, tmp_path: Path
) -> None:
    site.release(ONE, "v1")
    with metadata_service() as ec2:
        with running(environ | ec2.environ, folder=tmp_path) as agent:
            beat = until("i-1", lambda beat: beat.state == "steady")
            assert (beat.instance_id, beat.zone) == ("i-0123", "eu-central-1a")
            agent.stop()
            assert heartbeats(moto_server, site.url)["i-1"].state == "stopped"
        with running(environ | ec2.environ, folder=tmp_path) as agent:
            until("i-1", lambda beat: beat.state == "steady")
            ec2.terminate()
            assert agent.stop() < 2
            assert heartbeats(moto_server, site.url) == {}
