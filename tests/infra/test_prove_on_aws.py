"""What docs/aws.md believes about AWS and what scripts/prove-on-aws.sh asks are the same list."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "aws.md"
SCRIPT = ROOT / "scripts" / "prove-on-aws.sh"


def rows() -> list[tuple[str, str]]:
    """Claim and last cell of every row of the tables of claims."""
    found: list[tuple[str, str]] = []
    inside = False
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[:1] == ["claim"]:
            assert cells[1:] == ["source", "proved by"], line
            inside = True
        elif not cells:
            inside = False
        elif inside and set(line) - set("|-"):
            assert len(cells) == 3, line
            found.append((cells[0], cells[2]))
    return found


def step(cell: str) -> str:
    match = re.match(r"`(\w+)`", cell)
    return match.group(1) if match else ""


def asked() -> list[str]:
    """The steps of `claim STEP …`, as often as they are there."""
    return re.findall(r"^\s*claim (\w+) ", SCRIPT.read_text(), re.MULTILINE)


def set_aside() -> set[str]:
    """The steps of `not_asked STEP …` and `not_asked_all WHY STEP…`."""
    text = SCRIPT.read_text().replace("\\\n", " ")
    some = re.findall(r'^\s*not_asked_all "[^"]*" ([\w ]+)$', text, re.MULTILINE)
    return {*re.findall(r"^\s*not_asked (\w+) ", text, re.MULTILINE), *" ".join(some).split()}


def test_every_claim_has_a_step_of_its_own() -> None:
    assert len(rows()) > 40
    assert [claim for claim, cell in rows() if not step(cell)] == []
    steps = [step(cell) for _, cell in rows()]
    assert sorted(steps) == sorted(set(steps))


def test_every_claim_is_asked_and_nothing_else_is() -> None:
    only_a_job_on_github_can = {"immutable_subject"}
    assert {step(cell) for _, cell in rows()} == {*asked(), *only_a_job_on_github_can}
    assert set_aside() <= {*asked(), *only_a_job_on_github_can}
    assert only_a_job_on_github_can <= set_aside()


def test_what_one_run_cannot_ask_it_names() -> None:
    """With Egress=none: all that `main` leaves out is listed, so a summary always has every claim."""
    body = SCRIPT.read_text().replace("\\\n", " ")
    (left_out,) = re.findall(r'^\s*not_asked_all "Egress=none[^"]*" ([\w ]+)$', body, re.MULTILINE)
    parts = ("ask_an_instance", "ask_cloudwatch", "ask_about_updates")
    functions = [re.search(rf"^{name}\(\) {{\n(.*?)^}}", body, re.MULTILINE | re.DOTALL) for name in parts]
    needs_egress = {
        name for found in functions if found for name in re.findall(r"claim (\w+) ", found.group(1))
    }
    assert set(left_out.split()) == needs_egress | {"if_in_metadata"}


@pytest.mark.parametrize("arguments", [["--help"], ["what"], ["--stack"]])
def test_it_says_how_it_is_used_and_refuses_what_it_does_not_know(arguments: list[str]) -> None:
    done = subprocess.run(
        [SCRIPT, *arguments],
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == (0 if arguments == ["--help"] else 2)
    assert ("costs about 1 US dollar" in done.stdout) == (arguments == ["--help"])
