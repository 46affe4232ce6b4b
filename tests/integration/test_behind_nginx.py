"""The whole instance: the agent as a process, nginx in front, and what a load balancer sees of them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.agent_process import running
from tests.integration.conftest import LiveSite
from tests.integration.sites import promote_here, publish_here
from tests.nginx_process import nginx_serving
from tests.proxy import proxied
from tests.servers import S3Server

ONE = {"index.html": "<h1>one</h1>", "assets/app-1a2b3c4d.js": "one()"}
TWO = {"index.html": "<h1>two</h1>", "assets/app-2a2b3c4d.js": "two()"}


def eventually(reached: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Health follows an event by moments, and tells nobody that it has changed: a balancer asks too."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"not reached within {seconds} s"
        time.sleep(0.01)


def test_an_instance_gets_visitors_from_its_first_release_on_whatever_happens_to_the_agent(
    site: LiveSite, tmp_path: Path
) -> None:
    folder = tmp_path / "nginx"
    folder.mkdir()
    with (
        nginx_serving(site.state, site.state / "run", folder) as nginx,
        running(site.environ, folder=tmp_path) as agent,
    ):
        agent.wait_notified("READY=1")
        assert nginx.get("/healthz").status == 503, "nothing was promoted yet"
        site.write(ONE)
        publish_here(site, "v1")
        assert nginx.get("/healthz").status == 503, "published is not promoted"
        promote_here(site, "v1")
        agent.wait_for("activate.done")
        eventually(lambda: nginx.get("/healthz").status == 200)
        assert nginx.get("/").body.decode() == ONE["index.html"]

        site.write(TWO)
        publish_here(site, "v2")
        promote_here(site, "v2")
        agent.wait_for("activate.done", count=2)
        assert nginx.get("/").body.decode() == TWO["index.html"]
        for asset in ("/assets/app-1a2b3c4d.js", "/assets/app-2a2b3c4d.js"):
            assert nginx.get(asset).status == 200, "a page of the former release finds its files"

        agent.send(signal.SIGKILL)
        agent.process.wait(timeout=10)
        assert nginx.get("/healthz").status == 200, "a dead agent is no outage"
        assert nginx.get("/").body.decode() == TWO["index.html"]

    with (
        nginx_serving(site.state, site.state / "run", folder) as nginx,
        running(site.environ, folder=tmp_path) as agent,
    ):
        agent.wait_notified("READY=1")
        assert nginx.get("/healthz").status == 200, "restarted, with nothing new"
        assert [event for event in agent.events if event["event"].startswith(("activate", "stage"))] == []


def test_an_outage_of_s3_takes_no_instance_out_of_the_balancer(
    site: LiveSite, tmp_path: Path, moto_server: S3Server
) -> None:
    folder = tmp_path / "nginx"
    folder.mkdir()
    site.write(ONE)
    publish_here(site, "v1")
    promote_here(site, "v1")
    with (
        proxied(moto_server.endpoint) as proxy,
        nginx_serving(site.state, site.state / "run", folder) as nginx,
        running(
            site.environ | {"AWS_ENDPOINT_URL": proxy.endpoint, "S3SYNC_POLL_INTERVAL": "0.2"},
            folder=tmp_path,
        ) as agent,
    ):
        agent.wait_for("activate.done")
        eventually(lambda: nginx.get("/healthz").status == 200)
        proxy.hang()
        proxy.wait_for_request()
        assert nginx.get("/healthz").status == 200
        assert nginx.get("/").body.decode() == ONE["index.html"]
        site.write(TWO)
        publish_here(site, "v2")
        promote_here(site, "v2")
        proxy.resume()
        agent.wait_for("activate.done", count=2)
        assert nginx.get("/").body.decode() == TWO["index.html"]
        assert nginx.get("/healthz").status == 200
