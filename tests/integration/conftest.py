"""A site in a real S3 server, and what an agent that serves it needs in its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.agent_process import command
from tests.servers import S3Server

# Asks S3 when it is told to. It writes no heartbeats, or promotions would wait for it.
RARELY = {"S3SYNC_POLL_INTERVAL": "3600", "S3SYNC_HEARTBEAT_INTERVAL": "0"}


@dataclass(frozen=True, slots=True)
class LiveSite:
    """`folder` is where the site is written, `state` where the agent serves it from."""

    url: str
    folder: Path
    state: Path
    environ: dict[str, str]

    def write(self, files: Mapping[str, str]) -> None:
        for path, text in files.items():
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)

    def s3sync(self, *arguments: str) -> str:
        """Run `s3sync`; its stdout. It has to succeed."""
        done = command("s3sync", *arguments, environ=self.environ)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def release(self, files: Mapping[str, str], version: str) -> None:
        """Write, publish and promote."""
        self.write(files)
        self.s3sync("publish", str(self.folder), "--version", version)
        self.s3sync("promote", version, "--now", "--no-mirror")

    def live(self) -> dict[str, str]:
        root = self.state / "live"
        return {str(p.relative_to(root)): p.read_text() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture
def site(moto_server: S3Server, tmp_path: Path) -> LiveSite:
    bucket = moto_server.new_bucket()
    state = tmp_path / "state"
    (tmp_path / "site").mkdir()
    return LiveSite(
        url=f"s3://{bucket}/web",
        folder=tmp_path / "site",
        state=state,
        environ={
            **moto_server.environment(),
            "S3SYNC_SITE": f"s3://{bucket}/web",
            "S3SYNC_STATE_DIR": str(state),
            "S3SYNC_POLL_INTERVAL": "0.5",
            "S3SYNC_PLAIN_INTERVAL": "0.5",
            "S3SYNC_PLAIN_SETTLE": "1",
        },
    )
