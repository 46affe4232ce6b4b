"""The workflows, the action and what docs/ci.md shows of them, as GitHub reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
ACTION = ROOT / "action.yml"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
DOCS = ROOT / "docs" / "ci.md"

Document = dict[str, Any]


def load(path: Path) -> Document:
    """Every scalar as text: YAML 1.1 takes the key `on` for a truth value."""
    document: Document = yaml.load(path.read_text(), Loader=yaml.BaseLoader)  # noqa: S506  # makes text only
    return document


def jobs(path: Path) -> dict[str, Document]:
    found: dict[str, Document] = load(path)["jobs"]
    return found


def steps(path: Path) -> Iterator[Document]:
    """Of the action, or of all jobs of a workflow."""
    if path == ACTION:
        yield from load(path)["runs"]["steps"]
    else:
        for job in jobs(path).values():
            yield from job["steps"]


def shown() -> str:
    """The workflow that docs/ci.md shows, with a commit in place of the word."""
    (workflow,) = re.findall(r"```yaml\n(name: .*?)```", DOCS.read_text(), re.DOTALL)
    text: str = workflow
    return text.replace("OWNER/s3sync-agent@COMMIT", f"octo-org/s3sync-agent@{'0' * 40}")
