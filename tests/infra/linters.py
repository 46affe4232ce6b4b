"""Linters as tests call them: each gives what it found, by rule and resource, in its own words.

cfn-lint reads the template as it stands. checkov and cfn-guard judge values, so they get stacks with their
parameters filled in (`Stack.body`): they do not resolve functions themselves, and would guess.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.agent_process import minimal
from tests.infra.emulators import TOOLS

# What was found, by rule and logical id of the resource.
Findings = dict[tuple[str, str], str]
BIN = Path(sys.executable).parent


def run(*command: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        env=minimal({}),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def cfn_lint(template: Path) -> Findings:
    done = run(BIN / "cfn-lint", "--format", "json", "--", template)
    return {
        (found["Rule"]["Id"], _resource(found["Location"]["Path"])): found["Message"]
        for found in _parsed(done, done.stdout)
    }


def checkov(stacks: Path) -> Findings:
    """Of all stacks in a folder."""
    done = run(
        *(TOOLS / "checkov" / "bin" / "checkov", "--framework", "cloudformation", "--skip-download"),
        *("--compact", "--quiet", "--output", "json", "--directory", stacks),
    )
    report = _parsed(done, done.stdout)
    return {
        (found["check_id"], found["resource"].rpartition(".")[2]): found["check_name"]
        for found in report["results"]["failed_checks"]
    }


def cfn_guard(stacks: Path, unpacked: Path) -> Findings:
    """Of all stacks in a folder, by the rules of AWS Control Tower. `unpacked` has the program."""
    done = run(
        *(unpacked / "bin" / _system() / "cfn-guard", "validate", "--structured", "--show-summary", "none"),
        *("--output-format", "json", "--rules", unpacked / "rules" / "control-tower" / "cfn-guard"),
        *("--data", stacks),
    )
    found: dict[tuple[str, str], str] = defaultdict(str)
    for stack in _parsed(done, done.stdout):
        for rule in stack["not_compliant"]:
            (message,) = {text for text in _custom_messages(rule) if text.startswith("[CT.")}
            control = message[1 : message.index("]")]
            for resource in set(re.findall(r'"path": "/Resources/(\w+)', json.dumps(rule))):
                found[control, resource] = message
    return dict(found)


def unpack_cfn_guard(folder: Path) -> Path:
    """cfn-guard and its rules come in an archive inside a Python package."""
    (archive,) = (TOOLS / "cfn-guard").glob("lib/*/site-packages/cdklabs/cdk_validator_cfnguard/_jsii/*.tgz")
    done = run("tar", "--extract", "--file", archive, "--directory", folder)
    assert done.returncode == 0, done.stderr
    return folder / "package"


def _system() -> Path:
    system = {"Linux": "ubuntu", "Darwin": "macos"}[platform.system()]
    return Path(system) / {"arm64": "aarch64"}.get(platform.machine(), platform.machine())


def _custom_messages(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("custom_message"), str):
            yield " ".join(node["custom_message"].split())
        for child in node.values():
            yield from _custom_messages(child)
    elif isinstance(node, list):
        for child in node:
            yield from _custom_messages(child)


def _resource(path: list[Any]) -> str:
    return path[1] if len(path) > 1 and path[0] == "Resources" else "/".join(map(str, path))


def _parsed(done: subprocess.CompletedProcess[str], text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise AssertionError(f"no report from {done.args[0]}:\n{text}{done.stderr}") from None
