"""Sites in any server, asked through anything; and the quick ways to set a scene for the commands."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from s3sync_agent.bucket.s3 import S3Bucket
from s3sync_agent.deploy.promote import promote_now
from s3sync_agent.deploy.publish import publish
from s3sync_agent.layout import parse_site
from s3sync_agent.pointer import format_time
from s3sync_agent.release import Source
from tests.agent_process import command
from tests.agents import Agent, FakeClock
from tests.instances import promoter
from tests.integration.conftest import LiveSite
from tests.servers import ADMIN, Credentials, S3Server


def new_site(server: S3Server, folder: Path, *, prefix: str = "web", **settings: str) -> LiveSite:
    """A site in a bucket of its own; `folder` gets the written site and the instance's state."""
    bucket = server.new_bucket()
    written, state = folder / "site", folder / "state"
    written.mkdir(parents=True)
    url = f"s3://{bucket}/{prefix}"
    environ = {
        **server.environment(),
        "S3SYNC_SITE": url,
        "S3SYNC_STATE_DIR": str(state),
        "S3SYNC_PLAIN_SETTLE": "1",
        **settings,
    }
    return LiveSite(url=url, folder=written, state=state, environ=environ)


def asking(site: LiveSite, endpoint: str) -> LiveSite:
    """The same site, reached another way."""
    return replace(site, environ=site.environ | {"AWS_ENDPOINT_URL": endpoint})


def signed_by(site: LiveSite, who: Credentials = ADMIN) -> LiveSite:
    """The same site, asked for by somebody else."""
    keys = {"AWS_ACCESS_KEY_ID": who.access_key, "AWS_SECRET_ACCESS_KEY": who.secret_key}
    return replace(site, environ=site.environ | keys)


def run_once(site: LiveSite, **environ: str) -> CompletedProcess[str]:
    """`s3sync-agent run --once`, to its end, however it ends."""
    return command("s3sync-agent", "run", "--once", environ=site.environ | environ)


def events(done: CompletedProcess[str], name: str) -> list[dict[str, Any]]:
    """What a command has reported on stdout under this name."""
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    return [report for report in reports if report["event"] == name]


# ----------------------------------------------------- setting the scene, in this process


def bucket_of(site: LiveSite) -> S3Bucket:
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in site.environ.items():
            monkeypatch.setenv(name, value)
        return S3Bucket(parse_site(site.url).bucket)


def publish_here(site: LiveSite, version: str, *, with_files: bool = False) -> None:
    """What is written in the site's folder becomes a release."""
    publish(
        bucket_of(site),
        parse_site(site.url),
        site.folder,
        version=version,
        source=Source(),
        created_at=format_time(time.time()),
        with_files=with_files,
    )


def promote_here(site: LiveSite, version: str) -> None:
    somebody = promoter(bucket_of(site), site=parse_site(site.url))
    promote_now(somebody, version, promotion_id=secrets.token_hex(8))


def serve_here(site: LiveSite, **settings: Any) -> None:
    """One tick, as `run --once` would do it."""
    agent = Agent(site.state, bucket_of(site), FakeClock(time.time()), site=site.url, **settings)
    try:
        agent.tick()
    finally:
        agent.stop()
