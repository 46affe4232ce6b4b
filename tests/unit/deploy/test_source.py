from __future__ import annotations

import os
import subprocess
from pathlib import Path

from s3sync_agent.deploy.source import default_version, find_source, source_from_actions
from s3sync_agent.layout import check_version
from s3sync_agent.release import Source

ACTIONS = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SHA": "1a2b3c4d5e6f",
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "owner/site",
    "GITHUB_RUN_ID": "42",
}


def test_a_version_is_the_time_in_utc_and_the_short_commit() -> None:
    assert default_version(1_795_371_300.9, "1a2b3c4d5e6f") == "20261122T181500Z-1a2b3c4"
    assert default_version(1_795_371_300.9) == "20261122T181500Z"
    check_version(default_version(0, "1a2b3c4"))


def test_in_a_pipeline_its_own_words_count() -> None:
    assert source_from_actions(ACTIONS) == Source(
        commit="1a2b3c4d5e6f", ref="refs/heads/main", run_url="https://github.com/owner/site/actions/runs/42"
    )
    assert source_from_actions({"GITHUB_ACTIONS": "true"}) == Source()
    assert source_from_actions({"GITHUB_SHA": "1a2b3c4d5e6f"}) is None


def test_on_a_workstation_git_knows(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    (tmp_path / "dist").mkdir()
    assert find_source(tmp_path / "dist", {}) == Source(ref="refs/heads/main")
    git("commit", "--quiet", "--allow-empty", "--message=first")
    commit = git("rev-parse", "HEAD")
    assert find_source(tmp_path / "dist", {}) == Source(commit=commit, ref="refs/heads/main")
    git("checkout", "--quiet", "--detach")
    assert find_source(tmp_path / "dist", {}) == Source(commit=commit)
    assert find_source(tmp_path / "dist", ACTIONS).commit == "1a2b3c4d5e6f"


def test_a_branch_named_in_another_encoding_keeps_nobody_from_publishing(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "symbolic-ref", "HEAD", b"refs/heads/caf\xe9"], check=True)
    assert find_source(tmp_path, {}).ref == "refs/heads/caf\ufffd"
    ref = os.fsdecode(b"refs/heads/caf\xe9")
    assert find_source(tmp_path, ACTIONS | {"GITHUB_REF": ref}).ref == "refs/heads/caf?"


def test_outside_of_git_the_source_is_empty(tmp_path: Path) -> None:
    assert find_source(tmp_path, {}) == Source()
    assert find_source(tmp_path / "missing", {}) == Source()
