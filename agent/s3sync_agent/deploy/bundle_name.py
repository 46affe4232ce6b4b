"""What a bundle is called: what it holds, what it is for, and which bytes it has."""

from __future__ import annotations

import re
from dataclasses import dataclass

from s3sync_agent.errors import ConfigError
from s3sync_agent.layout import escape

_NAME = re.compile(
    r"s3sync-agent-(?P<version>[A-Za-z0-9.+!_]+)-cp3(?P<minor>\d+)-(?P<arch>x86_64|aarch64)"
    r"-(?P<digest>[0-9a-f]{12})\.pyz\Z"
)


@dataclass(frozen=True, slots=True)
class BundleName:
    """`python` as in `3.12`; `digest` is the first 12 digits of the file's SHA-256."""

    version: str
    python: str
    arch: str
    digest: str

    def __str__(self) -> str:
        tag = f"cp{self.python.replace('.', '')}"
        return f"s3sync-agent-{self.version}-{tag}-{self.arch}-{self.digest}.pyz"


def parse(name: str, *, sha256: str) -> BundleName:
    """The name of a file with this SHA-256. Raises ConfigError when it is not one, or another file's."""
    found = _NAME.match(name)
    if found is None:
        raise ConfigError(f"{escape(name)!r} is not named like a bundle", hint="make one with: s3sync bundle")
    if not re.fullmatch(r"[0-9a-f]{64}", sha256) or found["digest"] != sha256[:12]:
        raise ConfigError(
            f"{escape(sha256)!r} is not the SHA-256 of {name}", hint="make it again with: s3sync bundle"
        )
    return BundleName(found["version"], f"3.{found['minor']}", found["arch"], found["digest"])
