"""Where a release was built and who promotes it, as far as the environment tells."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from s3sync_agent.release import Source

_SHORT_COMMIT = 7
_GIT_SECONDS = 5.0


def source_of(environ: Mapping[str, str], root: Path) -> Source:
    """The commit that `root` was built from: GitHub Actions says, or the git repository around it."""
    commit = environ.get("GITHUB_SHA", "")
    if commit:
        server, repository = environ.get("GITHUB_SERVER_URL", ""), environ.get("GITHUB_REPOSITORY", "")
        run = environ.get("GITHUB_RUN_ID", "")
        return Source(
            commit=commit,
            ref=environ.get("GITHUB_REF", ""),
            run_url=f"{server}/{repository}/actions/runs/{run}" if server and repository and run else "",
        )
    return Source(
        commit=_git(root, "rev-parse", "--verify", "--quiet", "HEAD"),
        ref=_git(root, "symbolic-ref", "--quiet", "HEAD"),
    )


def default_version(now: float, source: Source) -> str:
    """`YYYYMMDDTHHMMSSZ-<short commit>`, without the commit where there is none. `now` is unix seconds."""
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{moment}-{source.commit[:_SHORT_COMMIT]}" if source.commit else moment


def promoter(environ: Mapping[str, str]) -> str:
    """Who is promoting: the GitHub actor, otherwise `user@host`."""
    actor = environ.get("GITHUB_ACTOR", "")
    if actor:
        return actor
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _git(root: Path, *command: str) -> str:
    """What git answers, or "" where there is no git, no repository or no commit: it is a label."""
    try:
        answer = subprocess.run(  # noqa: S603  # no shell; the arguments are ours
            ["git", "-C", str(root), *command],  # noqa: S607  # whichever git the user has
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
