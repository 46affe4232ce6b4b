"""What GitHub runs: no surprise in it, no credential that lasts, and no logic that no test has seen."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.workflows import ACTION, DOCS, ROOT, WORKFLOWS, jobs, load, shown, steps

TOOLS = Path(sys.executable).parent
NAMES = [path.stem for path in WORKFLOWS]
EVERY_FILE = pytest.mark.parametrize("path", [*WORKFLOWS, ACTION], ids=[*NAMES, "action"])
EVERY_WORKFLOW = pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
OF_THIS_TREE = "./"
TAKES_A_ROLE = ("aws-actions/configure-aws-credentials@", OF_THIS_TREE)
ALLOWED = {"contents": "read", "id-token": "write"}


def workflow(name: str) -> Path:
    return ROOT / ".github" / "workflows" / f"{name}.yml"


def job_ids() -> list[tuple[Path, str]]:
    return [(path, name) for path in WORKFLOWS for name in jobs(path)]


EVERY_JOB = pytest.mark.parametrize(("path", "name"), job_ids(), ids=lambda part: getattr(part, "stem", part))


# ---------------------------------------------------------------------------- the linters


def run(*command: str, folder: Path = ROOT) -> None:
    environ = {"PATH": f"{TOOLS}:{os.environ['PATH']}", "HOME": os.devnull}
    done = subprocess.run(
        [str(TOOLS / command[0]), *command[1:]],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_has_nothing_to_say() -> None:
    run("actionlint", "-no-color", *map(str, WORKFLOWS))


def test_actionlint_knows_the_inputs_of_every_action(tmp_path: Path) -> None:
    """It knows them by tag, not by commit."""
    unpinned = re.compile(r"@[0-9a-f]{40} # (v\d+)\S*")
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (tmp_path / "action.yml").write_text(ACTION.read_text())
    for path in WORKFLOWS:
        (folder / path.name).write_text(unpinned.sub(r"@\1", path.read_text()))
    # The steps of the action, as those of a job.
    lines = ACTION.read_text().partition("  steps:\n")[2]
    head = "name: action\non: push\njobs:\n  action:\n    runs-on: ubuntu-24.04\n    steps:\n"
    as_job = re.sub(r"\$\{\{ inputs\..*? \}\}", "text", unpinned.sub(r"@\1", lines))
    (folder / "action.yml").write_text(head + as_job)
    run("actionlint", "-no-color", folder=tmp_path)


def test_zizmor_finds_nothing_not_even_as_an_auditor() -> None:
    run("zizmor", "--offline", "--strict-collection", "--persona=auditor", "--no-progress", ".")


def test_what_the_docs_show_is_as_good_as_what_is_here(tmp_path: Path) -> None:
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (folder / "site.yml").write_text(shown())
    run("actionlint", "-no-color", folder=tmp_path)
    run(
        "zizmor",
        "--offline",
        "--strict-collection",
        "--persona=pedantic",
        "--no-progress",
        ".",
        folder=tmp_path,
    )


# ------------------------------------------------------------------------- what they use


def pins(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^ *(?:- )?uses: (\S+)(.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("text", [*(path.read_text() for path in [*WORKFLOWS, ACTION]), shown()])
def test_every_action_is_pinned_by_commit_and_says_its_version(text: str) -> None:
    for used, comment in pins(text):
        if used == OF_THIS_TREE:
            continue
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", used), used
        if not used.startswith("octo-org/"):
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), used


def test_an_action_has_one_pin_everywhere() -> None:
    everywhere = "\n".join(path.read_text() for path in [*WORKFLOWS, ACTION, DOCS])
    used = {pin + comment for pin, comment in pins(everywhere) if pin.count("@") and "COMMIT" not in pin}
    assert len(used) == len({pin.partition("@")[0] for pin in used}) > 0, sorted(used)


@EVERY_FILE
def test_no_checkout_leaves_a_token_in_the_tree(path: Path) -> None:
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"


# --------------------------------------------------------------------------- what they may


@EVERY_WORKFLOW
def test_a_workflow_as_a_whole_may_do_nothing(path: Path) -> None:
    assert load(path)["permissions"] == {}


@EVERY_JOB
def test_a_job_may_read_the_tree_and_at_most_ask_for_a_role(path: Path, name: str) -> None:
    granted = jobs(path)[name]["permissions"]
    assert granted.items() <= ALLOWED.items()


@EVERY_FILE
def test_there_is_no_secret(path: Path) -> None:
    assert not re.search(r"\bsecrets\b|aws-access-key-id:\s|github\.token", path.read_text())


@EVERY_WORKFLOW
def test_nothing_runs_a_stranger_s_code_with_rights_of_ours(path: Path) -> None:
    assert load(path)["on"].keys() <= {"push", "pull_request", "merge_group", "workflow_dispatch"}


def takes_a_role(path: Path, name: str) -> bool:
    return any(step.get("uses", "").startswith(TAKES_A_ROLE) for step in jobs(path)[name]["steps"])


@pytest.mark.parametrize(("path", "name"), [job for job in job_ids() if takes_a_role(*job)])
def test_a_job_that_takes_a_role_is_behind_an_environment_and_off_by_default(path: Path, name: str) -> None:
    job = jobs(path)[name]
    assert job["environment"]
    assert "pull_request" not in load(path)["on"]
    gate = jobs(path)[job["needs"]] if job.get("needs") in jobs(path) and name == "deploy" else job
    assert re.fullmatch(r"vars\.\w+ != '' && github\.ref == 'refs/heads/main'", gate["if"])


@pytest.mark.parametrize(("path", "name"), [job for job in job_ids() if not takes_a_role(*job)])
def test_a_job_that_takes_none_cannot_ask_for_one(path: Path, name: str) -> None:
    assert "id-token" not in jobs(path)[name]["permissions"]


# ---------------------------------------------------------------------------- how they run


@EVERY_JOB
def test_every_job_has_a_limit(path: Path, name: str) -> None:
    assert 0 < int(jobs(path)[name]["timeout-minutes"]) <= 90


@pytest.mark.parametrize("name", ["deploy", "rollback", "infra"])
def test_what_changes_something_is_never_cut_off_and_never_dropped(name: str) -> None:
    concurrency = load(workflow(name))["concurrency"]
    assert (concurrency["cancel-in-progress"], concurrency["queue"]) == ("false", "max")


def test_a_rollback_waits_for_no_deploy() -> None:
    groups = {load(workflow(name))["concurrency"]["group"] for name in ("deploy", "rollback")}
    assert len(groups) == 2


def test_one_check_stands_for_all_jobs() -> None:
    found = jobs(workflow("ci"))
    required = found.pop("required")
    assert set(required["needs"]) == set(found)
    assert required["if"] == "always()"
    (step,) = required["steps"]
    assert all(
        f"'{result}'" in step["env"]["ALL_SUCCEEDED"] for result in ("failure", "cancelled", "skipped")
    )


# ------------------------------------------------------------------------------- what they do


@EVERY_FILE
def test_nothing_is_pasted_into_a_shell(path: Path) -> None:
    for step in steps(path):
        assert "${{" not in step.get("run", "")


@EVERY_FILE
def test_a_step_is_a_command_or_two(path: Path) -> None:
    """What has branches, loops or text to work on is a script, and has tests."""
    for step in steps(path):
        lines = step.get("run", "").strip().splitlines()
        assert len(lines) <= 2
        for line in lines:
            assert not re.search(r"[;|`]|\$\(|\b(if|for|while|case)\b", line), line


@EVERY_WORKFLOW
def test_every_command_of_ours_is_there(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for step in steps(path):
        words = [word for word in shlex.split(step.get("run", "")) if word != "sudo"]
        if words and words[0] == "make":
            assert set(words[1:]) <= targets, words
        elif words and words[0].startswith("scripts/"):
            assert os.access(ROOT / words[0], os.X_OK), words


def test_the_docs_name_every_input_and_every_variable() -> None:
    text = DOCS.read_text()
    for name, described in load(ACTION)["inputs"].items():
        assert f"| `{name}` |" in text
        assert described["description"]
    used = set(re.findall(r"vars\.(\w+)", "\n".join(path.read_text() for path in WORKFLOWS)))
    assert used == set(re.findall(r"`((?:S3SYNC|INFRA)_\w+)`", text))


def test_the_stack_is_changed_only_when_somebody_starts_that_by_hand() -> None:
    (path,) = [path for path in WORKFLOWS if path.name == "infra.yml"]
    deploy = jobs(path)["deploy"]
    assert deploy["if"] == "github.event_name == 'workflow_dispatch'"
    assert "change-set" in deploy["needs"]
