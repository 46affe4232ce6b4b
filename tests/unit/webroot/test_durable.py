from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from s3sync_agent.webroot import durable

REFUSALS = [errno.EPERM, errno.EMLINK, errno.EXDEV]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"content")
    os.utime(path, (1_100_000_000, 1_100_000_000))
    path.chmod(0o444)
    return path


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is renamed and made durable, in order: no other way to see a power cut coming."""
    seen: list[str] = []
    rename, fsync = os.rename, os.fsync

    def spy_rename(source: str, target: str) -> None:
        rename(source, target)
        seen.append(f"rename {Path(target).name}")

    def spy_fsync(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append(f"fsync {'directory' if path.is_dir() else 'file'}")

    monkeypatch.setattr(os, "rename", spy_rename)
    monkeypatch.setattr(os, "fsync", spy_fsync)
    return seen


def refuse_links(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """As file systems do that are not at hand here."""

    def link(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)


def test_a_file_is_written_and_made_durable_before_it_has_its_name(
    tmp_path: Path, scratch: Path, steps: list[str]
) -> None:
    durable.write_file(tmp_path / "state.json", b"{}", scratch=scratch)
    assert steps == ["fsync file", "rename state.json", "fsync directory"]
    assert (tmp_path / "state.json").read_bytes() == b"{}"
    assert list(scratch.iterdir()) == []


def test_a_link_is_swapped_by_one_rename_and_made_durable(
    tmp_path: Path, scratch: Path, steps: list[str]
) -> None:
    for target in ("releases/a", "releases/b"):
        durable.replace_link(tmp_path / "live", target, scratch=scratch)
    assert steps == ["rename live", "fsync directory"] * 2
    assert str((tmp_path / "live").readlink()) == "releases/b"


def test_a_file_in_the_place_of_a_link_is_replaced(tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "live").write_bytes(b"")
    durable.replace_link(tmp_path / "live", "releases/a", scratch=scratch)
    assert str((tmp_path / "live").readlink()) == "releases/a"


def test_a_directory_in_the_place_of_a_link_ends_up_in_the_scratch_directory(
    tmp_path: Path, scratch: Path
) -> None:
    (tmp_path / "live").mkdir()
    (tmp_path / "live/precious").write_bytes(b"")
    durable.replace_link(tmp_path / "live", "releases/a", scratch=scratch)
    assert str((tmp_path / "live").readlink()) == "releases/a"
    assert [path.name for path in scratch.glob("*/*")] == ["precious"]


def write_file(path: Path, scratch: Path) -> None:
    durable.write_file(path, b"{}", scratch=scratch)


def replace_link(path: Path, scratch: Path) -> None:
    durable.replace_link(path, "releases/a", scratch=scratch)


@pytest.mark.parametrize("step", [write_file, replace_link])
def test_a_step_that_fails_leaves_nothing_behind_and_the_old_in_force(
    tmp_path: Path, scratch: Path, step: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")

    def no_space(*_: object) -> None:  # no full disk at hand
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "rename", no_space)
    with pytest.raises(OSError, match="No space"):
        step(target, scratch)
    assert target.read_bytes() == b"old"
    assert list(scratch.iterdir()) == []


def test_temporary_names_are_never_the_same(scratch: Path) -> None:
    assert len({durable.unique(scratch, "live") for _ in range(1000)}) == 1000


def test_everything_is_written_however_little_is_taken_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))  # a slow disk
    with (tmp_path / "file").open("wb") as file:
        durable.write_all(file.fileno(), b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_syncing_reports_what_the_kernel_says(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    durable.sync_file_system(descriptor)
    os.close(descriptor)
    with pytest.raises(OSError, match="syncfs") as error:
        durable.sync_file_system(descriptor)
    assert error.value.errno == errno.EBADF


def test_two_names_are_exchanged_at_once_and_both_must_exist(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").mkdir()
    durable.exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"a"
    with pytest.raises(FileNotFoundError):
        durable.exchange(tmp_path / "a", tmp_path / "missing")


# ------------------------------------------------------------------------ link or copy


def test_a_file_gets_a_further_name(tmp_path: Path, source: Path) -> None:
    durable.link_or_copy(source, tmp_path / "target")
    assert (tmp_path / "target").samefile(source)


@pytest.mark.parametrize("code", REFUSALS, ids=errno.errorcode.get)
def test_where_the_file_system_refuses_the_link_it_is_copied_read_only(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    refuse_links(monkeypatch, code)
    source.chmod(0o600)
    durable.link_or_copy(source, tmp_path / "target")
    found = (tmp_path / "target").stat()
    assert (tmp_path / "target").read_bytes() == b"content"
    assert stat.S_IMODE(found.st_mode) == 0o444
    assert found.st_mtime_ns == source.stat().st_mtime_ns
    assert found.st_ino != source.stat().st_ino


def test_any_other_refusal_is_an_error(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_links(monkeypatch, errno.ENOSPC)
    with pytest.raises(OSError, match="No space"):
        durable.link_or_copy(source, tmp_path / "target")


def test_a_served_name_is_never_half_a_copy(
    tmp_path: Path, scratch: Path, source: Path, monkeypatch: pytest.MonkeyPatch, steps: list[str]
) -> None:
    refuse_links(monkeypatch, errno.EMLINK)
    durable.place(source, tmp_path / "target", scratch=scratch)
    assert steps == ["rename target"]
    assert (tmp_path / "target").read_bytes() == b"content"
    assert list(scratch.iterdir()) == []


def test_a_served_name_is_replaced_at_once(
    tmp_path: Path, scratch: Path, source: Path, steps: list[str]
) -> None:
    (tmp_path / "target").write_bytes(b"old")
    durable.place(source, tmp_path / "target", scratch=scratch)
    assert steps == ["rename target"]
    assert (tmp_path / "target").samefile(source)
    durable.place(source, tmp_path / "target", scratch=scratch)  # over another link of the same file
    assert list(scratch.iterdir()) == []
