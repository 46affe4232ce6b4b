from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from s3sync_agent import layout
from s3sync_agent.release import digest
from s3sync_agent.webroot import Webroot
from s3sync_agent.webroot.staging import Staging, is_pristine, remove_tree
from tests.property.strategies import entry_for
from tests.unit.webroot.conftest import Commit, fill

ENTRY = entry_for("index.html", b"<h1>hello</h1>")


@pytest.fixture
def staging(webroot: Webroot) -> Staging:
    return webroot.stage("v1-0123456789ab")


def test_a_tree_lies_in_the_staging_directory_under_a_name_of_its_own(webroot: Webroot) -> None:
    first, second = webroot.stage("v1-0123456789ab"), webroot.stage("v1-0123456789ab")
    assert first.root.parent == second.root.parent == webroot.paths.staging
    assert first.root != second.root
    webroot.discard(first)
    webroot.discard(second)
    assert list(webroot.paths.staging.iterdir()) == []


def test_a_file_is_read_only_and_its_mtime_is_a_function_of_its_content(
    webroot: Webroot, staging: Staging
) -> None:
    fill(staging, {"index.html": b"<h1>hello</h1>"})
    found = (staging.root / "index.html").stat()
    assert stat.S_IMODE(found.st_mode) == 0o444
    assert found.st_mtime_ns == layout.mtime_for(digest(b"<h1>hello</h1>")) * 10**9
    assert is_pristine(staging.root / "index.html", ENTRY)
    webroot.discard(staging)


def test_a_name_is_never_taken_twice(webroot: Webroot, staging: Staging) -> None:
    staging.create("index.html").abandon()
    with pytest.raises(FileExistsError):
        staging.create("index.html")
    (staging.root / "link").symlink_to("/etc/passwd")
    with pytest.raises(FileExistsError):
        staging.create("link")
    webroot.discard(staging)


def test_an_unchanged_file_is_shared_with_the_release_it_comes_from(
    webroot: Webroot, commit: Commit, staging: Staging
) -> None:
    source = webroot.paths.release(commit()) / "index.html"
    staging.link("index.html", str(source))
    assert (staging.root / "index.html").samefile(source)
    webroot.discard(staging)
    assert source.stat().st_nlink == 1


def altered(path: Path) -> None:
    path.write_bytes(b"<h1>HELLO!</h1>")


def touched(path: Path) -> None:
    path.touch()


def a_link(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to("other")


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [altered, touched, a_link, gone])
def test_only_a_file_of_the_right_size_and_mtime_is_pristine(tmp_path: Path, change: object) -> None:
    path = tmp_path / "index.html"
    path.write_bytes(b"<h1>hello</h1>")
    moment = layout.mtime_for(ENTRY.sha256)
    os.utime(path, (moment, moment))
    assert is_pristine(path, ENTRY)
    change(path)  # type: ignore[operator]  # one of the four above
    assert not is_pristine(path, ENTRY)
    assert not is_pristine(path / "below", ENTRY)


def test_a_tree_of_read_only_directories_can_be_removed(tmp_path: Path) -> None:
    deep = tmp_path / "tree/a/b"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"")
    for directory in (deep, deep.parent, deep.parent.parent):
        directory.chmod(0o555)
    remove_tree(tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []


def test_what_a_link_leads_to_is_left_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"")
    outside.chmod(0o555)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to(outside)
    (tmp_path / "link").symlink_to(outside)
    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "link")
    assert list(tmp_path.iterdir()) == [outside]
    assert stat.S_IMODE(outside.stat().st_mode) == 0o555
    assert (outside / "precious").exists()
    outside.chmod(0o755)


def test_anything_can_be_removed_and_nothing_is_no_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("fifo", "file", "dangling", "missing", "missing/below"):
        remove_tree(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
