"""AWS settings of the service: the region and the endpoint, in the words of the AWS SDK.

An instance role brings credentials and nothing else, and systemd starts a service without anybody's
environment. What the SDK cannot find out is written where the unit reads it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

from s3sync_agent.errors import ConfigError
from s3sync_agent.layout import MachinePaths, escape
from s3sync_agent.setup.host import Host
from s3sync_agent.setup.steps import Finding

_WRITTEN = (
    "# Written by `s3sync-agent setup`, which never changes it again. Read by the service when it starts.\n"
)
_REGION = re.compile(r"[a-z0-9-]+\Z")
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9._:\[\]/-]+\Z")


@dataclass(frozen=True, slots=True)
class AwsSettings:
    """What the service is told; "" for what the SDK finds out by itself. Raises ConfigError."""

    region: str = ""
    endpoint_url: str = ""

    def __post_init__(self) -> None:
        if self.region and not _REGION.match(self.region):
            raise ConfigError(
                f"{escape(self.region)!r} is no region", hint="for example: --region eu-central-1"
            )
        if self.endpoint_url and not _ENDPOINT.match(self.endpoint_url):
            raise ConfigError(
                f"{escape(self.endpoint_url)!r} is no endpoint",
                hint="for example: --endpoint-url http://127.0.0.1:9000",
            )

    def text(self) -> str:
        """The file's text; "" when there is nothing to tell."""
        pairs = (("AWS_DEFAULT_REGION", self.region), ("AWS_ENDPOINT_URL", self.endpoint_url))
        lines = "".join(f"{name}={value}\n" for name, value in pairs if value)
        return lines and _WRITTEN + lines


def written(settings: AwsSettings, paths: MachinePaths, host: Host) -> Finding:
    """An existing file is the operator's: kept, and a difference is told."""
    path = paths.environment
    wanted = settings.text()
    existing = host.read(path)
    if not wanted:
        return Finding(
            f"{path} is kept as it is" if existing is not None else "the AWS settings are the SDK's own"
        )
    if existing is None:
        return Finding(f"write {path}", partial(_write, wanted, paths))
    differs = "" if existing == wanted.encode() else "; it says something else than the options"
    return Finding(f"{path} is kept as it is{differs}")


def _write(text: str, paths: MachinePaths, host: Host) -> None:
    host.write(paths.environment, text.encode())
    host.run("systemctl", "try-restart", "--no-block", paths.service)  # a service that ran without it


def removed(paths: MachinePaths, host: Host) -> Finding:
    """Only what setup wrote and nobody changed is removed."""
    path = paths.environment
    existing = host.read(path)
    if existing is None:
        return Finding(f"{path} is not there")
    if _is_untouched(existing):
        return Finding(f"remove {path}", lambda host: host.remove(path))
    return Finding(f"{path} was changed by somebody and is kept")


def _is_untouched(existing: bytes) -> bool:
    lines = existing.decode(errors="replace").removeprefix(_WRITTEN).splitlines()
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    try:
        again = AwsSettings(values.get("AWS_DEFAULT_REGION", ""), values.get("AWS_ENDPOINT_URL", ""))
    except ConfigError:
        return False
    return bool(existing) and again.text().encode() == existing
