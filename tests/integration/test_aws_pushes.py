"""Pipelines that know nothing of this project: they push with `aws s3 cp` and `aws s3 sync`."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from s3sync_agent.layout import parse_site
from tests.agent_process import COMMANDS, minimal, running
from tests.agents import Agent, FakeClock
from tests.integration.conftest import LiveSite
from tests.integration.sites import bucket_of, new_site, promote_here, publish_here, run_once
from tests.nginx_process import nginx_serving
from tests.servers import S3Server

ONE = {
    "index.html": "<h1>one</h1>",
    "about/index.html": "<h1>about one</h1>",
    "assets/app-1a2b3c4d.js": "one()",
    "same.css": "body {}",
    "gone in two.html": "<h1>only in one</h1>",
}
TWO = {
    "index.html": "<h1>two</h1>",
    "about/index.html": "<h1>about two</h1>",
    "assets/app-2a2b3c4d.js": "two()",
    "same.css": "body {}",
}


@pytest.fixture
def site(moto_server: S3Server, tmp_path: Path) -> LiveSite:
    return new_site(moto_server, tmp_path)


def aws(site: LiveSite, *arguments: str) -> None:
    """The real command line, of the version that the lock file names."""
    done = subprocess.run(
        [str(COMMANDS / "aws"), "s3", *arguments],
        env=minimal(site.environ),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def rewrite(site: LiveSite, files: dict[str, str]) -> None:
    """The site's folder holds these files and no others."""
    site.write(files)
    for path in site.folder.rglob("*"):
        if path.is_file() and str(path.relative_to(site.folder)) not in files:
            path.unlink()


# --------------------------------------------------------------------------- whole pushes


def test_a_bucket_filled_by_aws_s3_sync_alone_is_served(site: LiveSite) -> None:
    site.write(ONE)
    aws(site, "sync", str(site.folder), f"{site.url}/current/")
    done = run_once(site)
    assert done.returncode == 0, done.stderr
    assert site.live() == ONE


def test_releases_first_and_current_second_is_served_under_the_releases_name(site: LiveSite) -> None:
    site.write(ONE)
    for target in ("releases/2026-11-22T18-15-00Z/", "current/"):
        aws(site, "cp", "--recursive", str(site.folder), f"{site.url}/{target}")
    done = run_once(site)
    assert done.returncode == 0, done.stderr
    assert site.live() == ONE
    assert (site.state / "live").resolve().name.startswith("2026-11-22T18-15-00Z-")


def test_a_file_that_the_next_push_deletes_is_gone(site: LiveSite, moto_server: S3Server) -> None:
    push(site, moto_server, objects("releases/one/", ONE) + objects("current/", ONE))
    run_once(site)
    assert site.live() == ONE
    rewrite(site, TWO)
    aws(site, "cp", "--recursive", str(site.folder), f"{site.url}/releases/two/")
    aws(site, "sync", "--delete", str(site.folder), f"{site.url}/current/")
    done = run_once(site)
    assert done.returncode == 0, done.stderr
    assert site.live() == TWO


# ---------------------------------------------------------------------------- half pushes

Change = tuple[str, str | None]  # a key relative to the site, and its new text; None deletes it
Order = Callable[[list[Change]], list[Change]]


def objects(prefix: str, files: dict[str, str]) -> list[Change]:
    return [(prefix + path, text) for path, text in sorted(files.items())]


def push(site: LiveSite, server: S3Server, changes: Iterable[Change]) -> None:
    where = parse_site(site.url)
    for key, text in changes:
        if text is None:
            server.admin.delete_object(Bucket=where.bucket, Key=where.key(key))
        else:
            server.admin.put_object(Bucket=where.bucket, Key=where.key(key), Body=text.encode())


@pytest.fixture
def agent(site: LiveSite) -> Iterator[Agent]:
    """One that looks when it is told to, and takes everything for settled: who interrupts a push here has
    interrupted it for ever."""
    found = Agent(site.state, bucket_of(site), FakeClock(time.time()), site=site.url, plain_settle=0)
    yield found
    found.stop()


def _shuffled(changes: list[Change]) -> list[Change]:
    """`aws` uploads ten at a time: any order can happen."""
    return random.Random(1).sample(changes, len(changes))


@pytest.mark.parametrize(
    "order", [list, lambda changes: changes[::-1], _shuffled], ids=["forwards", "backwards", "shuffled"]
)
def test_a_push_that_is_interrupted_at_any_object_is_never_served(
    site: LiveSite, moto_server: S3Server, agent: Agent, order: Order
) -> None:
    served: dict[str, str] = {}
    for name, files in (("one", ONE), ("two", TWO)):
        changes = order(objects(f"releases/{name}/", files)) + order(objects("current/", files))
        changes += [(f"current/{path}", None) for path in served if path not in files]
        *interrupted, last = changes
        for change in interrupted:
            push(site, moto_server, [change])
            agent.attempt()
            assert site.live() == served, f"after {change}"
        push(site, moto_server, [last])
        agent.attempt()
        assert site.live() == files
        served = files


def test_half_a_push_is_told_with_what_is_missing(site: LiveSite, moto_server: S3Server) -> None:
    push(site, moto_server, objects("releases/one/", ONE) + objects("current/", ONE)[:-1])
    done = run_once(site)
    assert done.returncode == 4
    missing = objects("current/", ONE)[-1][0].removeprefix("current/")
    assert done.stderr.startswith(f"error: {site.url}: current/ equals no release: {missing} is missing")
    assert site.live() == {}


def test_a_bare_push_in_progress_is_not_served(site: LiveSite, moto_server: S3Server) -> None:
    """Without `releases/` nothing but time tells a half push: every object starts it anew."""
    clock = FakeClock(time.time())
    agent = Agent(site.state, bucket_of(site), clock, site=site.url, plain_settle=1)
    for change in objects("current/", ONE):
        push(site, moto_server, [change])
        for _ in range(2):
            outcome = agent.attempt().outcome
            assert outcome is not None
            assert outcome.look_again
            assert site.live() == {}
            clock.advance(0.9)
    agent.stop()
    done = run_once(site)
    assert done.returncode == 0, done.stderr
    assert site.live() == ONE


# ------------------------------------------------------------ a push over a site with a pointer


def test_aws_s3_sync_delete_over_the_pointer_is_told_and_the_site_stays(
    site: LiveSite, tmp_path: Path
) -> None:
    site.write(ONE)
    publish_here(site, "v1", with_files=True)
    promote_here(site, "v1")
    run_dir, nginx_dir = site.state / "run", tmp_path / "nginx"
    nginx_dir.mkdir()
    environ = site.environ | {"S3SYNC_POLL_INTERVAL": "0.3"}
    with running(environ, folder=tmp_path) as agent, nginx_serving(site.state, run_dir, nginx_dir) as nginx:
        agent.wait_for("activate.done")
        rewrite(site, TWO)
        aws(site, "sync", "--delete", str(site.folder), f"{site.url}/current/")
        failed = agent.wait_for("poll.failed")
        assert (failed["error"], failed["level"]) == ("PointerLost", "warning")
        assert "s3sync promote" in failed["hint"]
        assert site.live() == ONE
        assert nginx.get("/").body.decode() == ONE["index.html"]
        assert nginx.get("/healthz").status == 200

        site.s3sync("promote", "v1", "--now")
        agent.wait_for("poll.changed", count=2)
        assert site.live() == ONE
        publish_here(site, "v2")
        promote_here(site, "v2")
        agent.wait_for("activate.done", count=2)
        assert nginx.get("/").body.decode() == TWO["index.html"]
