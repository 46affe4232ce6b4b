"""Where a release comes from, and what it is called when nobody gave it a name."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from s3sync_agent.release import Source

_GIT_SECONDS = 10


def default_version(now: float, commit: str = "") -> str:
    """`YYYYMMDDTHHMMSSZ-<short commit>`, without the second part when there is no commit. `now` is
    unix seconds."""
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{moment}-{commit[:7]}" if commit else moment


def source_from_actions(env: Mapping[str, str]) -> Source | None:
    """What GitHub Actions says in the environment; None elsewhere. Pure."""
    if env.get("GITHUB_ACTIONS") != "true":
        return None

    def value(name: str) -> str:
        return env.get(name, "").encode(errors="replace").decode()  # names of branches are bytes

    server, repository, run = value("GITHUB_SERVER_URL"), value("GITHUB_REPOSITORY"), value("GITHUB_RUN_ID")
    return Source(
        commit=value("GITHUB_SHA"),
        ref=value("GITHUB_REF"),
        run_url=f"{server}/{repository}/actions/runs/{run}" if server and repository and run else "",
    )


def find_source(root: Path, env: Mapping[str, str]) -> Source:
    """From the pipeline's environment, else from the Git work tree around `root`; empty outside of
    one, or without Git."""
    return source_from_actions(env) or Source(
        commit=_git(root, "rev-parse", "--verify", "--quiet", "HEAD"),
        ref=_git(root, "symbolic-ref", "--quiet", "HEAD"),
    )


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - our own words, no shell
            ["git", "-C", str(root), *arguments],  # noqa: S607 - the user's Git, wherever it is
            capture_output=True,
            check=False,
            text=True,
            errors="replace",
            timeout=_GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""  # where a release comes from is good to know; it is not needed to publish
    return done.stdout.strip() if done.returncode == 0 else ""
