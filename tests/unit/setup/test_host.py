from __future__ import annotations

import getpass
import os
import stat
from pathlib import Path

import pytest

from s3sync_agent.errors import SetupFailed
from s3sync_agent.setup.host import Directory, LocalHost

HOST = LocalHost()
ME = getpass.getuser()


def test_a_file_is_written_whole_and_readable_by_all(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    assert HOST.read(path) is None
    old = os.umask(0o077)
    try:
        HOST.write(path, b"one")
        HOST.write(path, b"two")
    finally:
        os.umask(old)
    assert HOST.read(path) == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_writing_through_a_link_changes_the_file_and_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"one")
    HOST.make_link(tmp_path / "link", "real")
    HOST.write(tmp_path / "link", b"two")
    assert HOST.link(tmp_path / "link") == "real"
    assert (tmp_path / "real").read_bytes() == b"two"


def test_removing_takes_files_links_and_whole_directories(tmp_path: Path) -> None:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "file").touch()
    (tmp_path / "link").symlink_to("tree")
    HOST.remove(tmp_path / "link")
    assert (tmp_path / "tree" / "deep" / "file").exists()
    HOST.remove(tmp_path / "tree")
    HOST.remove(tmp_path / "tree")
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_a_directory_is_told_by_name(tmp_path: Path) -> None:
    assert HOST.entries(tmp_path / "nowhere") == []
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    assert sorted(HOST.entries(tmp_path)) == ["folder", "link"]


def test_a_directory_gets_its_mode_and_owner(tmp_path: Path) -> None:
    path = tmp_path / "state"
    assert HOST.directory(path) is None
    HOST.make_directory(path, Directory(0o750, ME))
    assert HOST.directory(path) == Directory(0o750, ME)
    HOST.make_directory(path, Directory(0o755, ME))
    assert HOST.directory(path) == Directory(0o755, ME)


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("/etc")], ids=["file", "link"])
def test_what_is_no_directory_is_refused(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "state")
    with pytest.raises(SetupFailed, match="is no directory"):
        HOST.directory(tmp_path / "state")


def test_a_command_is_told_by_its_code_and_all_it_said() -> None:
    ran = HOST.run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (ran.code, ran.output, ran.ok) == (3, "out\nerr", False)
    assert HOST.ask("no-such-program-anywhere").code == 127
