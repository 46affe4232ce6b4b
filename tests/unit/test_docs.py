from __future__ import annotations

import re
from pathlib import Path

import pytest

from s3sync_agent.machine import State
from scripts.docs import DOCS, PAGES, states


@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_is_a_table_of_the_code_is_what_the_code_says(name: str) -> None:
    made = PAGES[name]()
    assert (DOCS / name).read_text(encoding="utf-8") == made, "run .venv/bin/python scripts/docs.py"


@pytest.mark.parametrize("name", PAGES)
def test_every_table_has_rows_of_one_width(name: str) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", PAGES[name](), re.MULTILINE):
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1


def test_the_drawing_leads_to_every_state() -> None:
    drawn = set(re.findall(r"--> (\w+)", states()))
    assert drawn == {state.value for state in State}


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
