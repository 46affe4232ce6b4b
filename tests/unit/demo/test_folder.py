from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3sync_agent.demo.folder import FolderWatch, describe_changes, take_snapshot


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "site"
    place.mkdir()
    (place / "index.html").write_text("one")
    return place


@pytest.fixture
def watch(folder: Path) -> Iterator[FolderWatch]:
    watching = FolderWatch(folder, tell=pytest.fail)
    yield watching
    watching.close()


def change(watch: FolderWatch) -> str:
    deadline = time.monotonic() + 20

    def give_up() -> None:
        assert time.monotonic() < deadline

    return watch.next_change(give_up)[1]


def test_a_saved_file_is_noticed(folder: Path, watch: FolderWatch) -> None:
    (folder / "index.html").write_text("three")

    assert change(watch) == "index.html"


def test_many_files_saved_in_a_row_are_one_change(folder: Path, watch: FolderWatch) -> None:
    for number in range(50):
        (folder / f"{number:02}.html").write_text("page")

    assert change(watch) == "00.html, 01.html, 02.html and 47 more"


def test_what_an_editor_writes_beside_the_file_is_none(folder: Path, watch: FolderWatch) -> None:
    for name in (".index.html.swp", "4913", "index.html~", ".#index.html", "#index.html#"):
        (folder / name).write_text("")
    saved = threading.Timer(1.5, (folder / "index.html").write_text, ["three"])
    saved.start()

    assert change(watch) == "index.html"


def test_a_folder_that_a_build_makes_anew_is_watched_anew(folder: Path, watch: FolderWatch) -> None:
    shutil.rmtree(folder)
    assert change(watch) == "index.html (gone)"
    folder.mkdir()
    (folder / "index.html").write_text("two")
    assert change(watch) == "index.html"

    (folder / "index.html").write_text("three")
    assert change(watch) == "index.html"


def test_a_link_that_leads_nowhere_is_nothing_that_was_saved(folder: Path) -> None:
    before = take_snapshot(folder)
    (folder / "link").symlink_to("nowhere")

    assert not describe_changes(before, take_snapshot(folder))
