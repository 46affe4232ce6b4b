"""Linters of the stack object to nothing but what was reviewed, with a reason (reviewed.py)."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from tests.infra import linters, reviewed
from tests.infra.given import EVERYTHING, bundle
from tests.infra.linters import BIN, Findings
from tests.infra.reviewed import Reviewed
from tests.infra.template import Template

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = {"defaults": bundle("a"), "no-egress": {"Egress": "none", **bundle("a")}, "everything": EVERYTHING}


@pytest.fixture(scope="module")
def stacks(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with variants of the stack, without parameters and functions."""
    folder = tmp_path_factory.mktemp("stacks")
    for name, parameters in VARIANTS.items():
        (folder / f"{name}.json").write_text(json.dumps(template.stack(**parameters).body(), indent=1))
    return folder


def assert_reviewed(found: Findings, accepted: Reviewed) -> None:
    new = {f"{rule} {resource}: {found[rule, resource]}" for rule, resource in found.keys() - accepted.keys()}
    assert not new, "\n" + "\n".join(sorted(new))
    assert not accepted.keys() - found.keys(), "accepted and no longer found"


def test_cfn_lint(path: Path) -> None:
    assert_reviewed(linters.cfn_lint(path), reviewed.CFN_LINT)


@pytest.mark.timeout(180)  # it needs nine seconds to start
def test_checkov(stacks: Path) -> None:
    assert_reviewed(linters.checkov(stacks), reviewed.CHECKOV)


def test_cfn_guard_with_the_rules_of_control_tower(stacks: Path, tmp_path: Path) -> None:
    unpacked = linters.unpack_cfn_guard(tmp_path)
    assert_reviewed(linters.cfn_guard(stacks, unpacked), reviewed.CFN_GUARD)


@pytest.mark.parametrize("variant", VARIANTS)
def test_shellcheck_of_the_boot_script(template: Template, variant: str) -> None:
    launch_template = template.stack(**VARIANTS[variant]).resources["LaunchTemplate"]
    script = base64.b64decode(launch_template.properties["LaunchTemplateData"]["UserData"]).decode()
    # What it calls in a trap, and what it writes into another shell's single quotes, shellcheck cannot see.
    done = linters.run(BIN / "shellcheck", "--exclude=SC2016,SC2317,SC2329", "-", stdin=script)
    assert done.returncode == 0, done.stdout


def test_shellcheck_of_every_script() -> None:
    scripts = [*ROOT.glob("scripts/*.sh"), *ROOT.glob(".ci/*")]
    done = linters.run(BIN / "shellcheck", "--external-sources", *scripts)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "tool", sorted((ROOT / "tests/infra/tools").glob("*.in")), ids=lambda tool: tool.stem
)
def test_a_tool_is_pinned_by_version_and_hash(tool: Path) -> None:
    wanted = re.match(r"[a-z.-]+", tool.read_text())
    assert wanted is not None
    locked = tool.with_suffix(".lock").read_text()
    assert re.search(rf"^{wanted[0].replace('.', '-')}==\S+ \\\n +--hash=sha256:", locked, re.MULTILINE)
