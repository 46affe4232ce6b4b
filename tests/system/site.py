"""A site as CI sees it: published and promoted with the real commands, from the hub."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

from s3sync_agent.heartbeat import Heartbeat, parse_heartbeat
from s3sync_agent.pointer import Pointer, parse_pointer
from tests.agent_process import COMMANDS, minimal
from tests.servers import REGION
from tests.system import s3
from tests.system.network import Hub

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/site"
COMMAND_SECONDS = 120.0
UNIT = ROOT / "systemd/s3sync-agent.service"
TEMPLATE = ROOT / "systemd/s3sync-agent@.service"


@dataclass(frozen=True, slots=True)
class Site:
    """`folder` is where `release` writes the site before it publishes it."""

    url: str
    folder: Path
    hub: Hub

    def s3sync(self, *arguments: str) -> str:
        """Run `s3sync`; its stdout. It has to succeed."""
        code, out, err = self.attempt(*arguments)
        assert code == 0, f"exit code {code}: {out}{err}"
        return out.strip()

    def attempt(self, *arguments: str) -> tuple[int, str, str]:
        """Run `s3sync`, which may fail: exit code, stdout and stderr."""
        with self.beginning(*arguments) as running:
            try:
                out, err = running.communicate(timeout=COMMAND_SECONDS)
            except subprocess.TimeoutExpired:
                running.kill()
                raise
        return running.returncode, out, err

    def beginning(self, *arguments: str) -> subprocess.Popen[str]:
        """`s3sync`, running."""
        environ = minimal(
            {**s3.environment(s3.CI), "S3SYNC_SITE": self.url, "PYTHONPATH": str(ROOT / "agent")}
        )
        command = self.hub.command(str(COMMANDS / "s3sync"), *arguments)
        return subprocess.Popen(command, env=environ, stdout=PIPE, stderr=PIPE, text=True)

    def pointer(self) -> Pointer:
        """As it is now, read without the code under test's way to S3."""
        return parse_pointer(self.hub.call(s3.get, f"{self._prefix}/current/.s3sync/pointer.json")).pointer

    def heartbeats(self) -> dict[str, Heartbeat]:
        """By identity."""
        folder = f"{self._prefix}/fleet/"
        found = {
            key.removeprefix(folder).removesuffix(".json"): self.hub.call(s3.get, key)
            for key in self.hub.call(s3.keys, folder)
        }
        return {identity: parse_heartbeat(raw, identity=identity) for identity, raw in found.items()}

    @property
    def _prefix(self) -> str:
        return self.url.removeprefix(f"s3://{s3.BUCKET}/")

    def publish(self, folder: Path, version: str) -> None:
        self.s3sync("publish", str(folder), "--version", version)

    def promote(self, version: str) -> None:
        self.s3sync("promote", version, "--now", "--no-mirror")

    def release(self, files: Mapping[str, str], version: str) -> None:
        """Write, publish and promote."""
        for path, text in files.items():
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        self.publish(self.folder, version)
        self.promote(version)

    def user_data(self, bundle: Path, *, on_end: str = "", wait: int = 60, role_id: str = "") -> str:
        """The boot script of an instance, with its bundle where it looks for it."""
        self.s3sync("bundle", "--upload", str(bundle))
        options = ["--bundle", str(bundle), "--region", REGION, "--endpoint-url", s3.ENDPOINT]
        options += ["--role-id", role_id] if role_id else []
        return self.s3sync("userdata", *options, "--on-end", on_end, "--wait", str(wait)) + "\n"
