from __future__ import annotations

from pathlib import Path

import pytest

from s3sync_agent.deploy.wheels import Target, collect, parse_lock, pip_download, read_lock, read_wheel
from s3sync_agent.errors import BundleFailed, DigestMismatch
from tests.unit.deploy.wheel_files import Index, agent_wheel, wheel

ROOT = Path(__file__).resolve().parents[3]
RUNTIME = (ROOT / "agent/s3sync_agent/data/runtime.lock").read_text()
NOBLE = Target("3.12", "x86_64")


def test_the_runtime_lock_is_the_part_of_the_developers_lock_that_runs() -> None:
    everything = {entry.name: entry for entry in parse_lock((ROOT / "requirements.lock").read_text(), NOBLE)}
    runtime = parse_lock(RUNTIME, NOBLE)
    assert {"boto3", "click", "installer", "msgspec", "structlog", "watchdog"} <= {e.name for e in runtime}
    assert not {"rich", "pytest", "moto", "awscli"} & {entry.name for entry in runtime}
    for entry in runtime:
        assert entry == everything[entry.name], "run make lock"


def test_markers_are_read_for_the_instance_and_not_for_this_python() -> None:
    names = {
        python: {entry.name for entry in parse_lock(RUNTIME, Target(python, "aarch64"))}
        for python in ("3.11", "3.12", "3.13", "3.14")
    }
    assert [python for python in names if "backports-zstd" in names[python]] == ["3.11", "3.12", "3.13"]


def test_a_marker_for_another_processor_leaves_a_package_out() -> None:
    lock = f"one==1 ; platform_machine == 'aarch64' \\\n    --hash=sha256:{'a' * 64}\n"
    assert parse_lock(lock, Target("3.12", "x86_64")) == []
    assert [entry.name for entry in parse_lock(lock, Target("3.12", "aarch64"))] == ["one"]


@pytest.mark.parametrize("line", ["six", "six==1.0", "six>=1 \\\n    --hash=sha256:" + "a" * 64])
def test_a_line_that_pins_nothing_is_refused(line: str) -> None:
    with pytest.raises(BundleFailed, match="without version and hash"):
        parse_lock(line, NOBLE)


def test_an_instance_takes_wheels_for_its_own_or_an_older_c_library() -> None:
    platforms = Target("3.12", "aarch64").platforms
    assert platforms[0] == "manylinux_2_34_aarch64"
    assert "manylinux_2_17_aarch64" in platforms
    assert "manylinux2014_aarch64" in platforms
    assert not any("2_35" in name or "x86_64" in name or "musl" in name for name in platforms)


def test_a_wheel_without_a_lock_says_what_is_missing(tmp_path: Path) -> None:
    filename, content = wheel("s3sync-agent")
    (tmp_path / filename).write_bytes(content)
    with pytest.raises(BundleFailed, match=r"holds no s3sync_agent/data/runtime\.lock"):
        read_lock(tmp_path / filename, NOBLE)


def test_a_file_that_is_no_wheel_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BundleFailed, match=r"notes\.txt"):
        read_wheel(tmp_path / "notes.txt")
    with pytest.raises(BundleFailed, match="No such file"):
        read_wheel(tmp_path / "six-1.0-py3-none-any.whl")


def test_another_file_under_the_locked_name_is_refused(tmp_path: Path) -> None:
    locked = parse_lock(Index(wheel("six")).lock, NOBLE)
    forged = Index(wheel("six", files={"six/__init__.py": b"evil"}))
    with pytest.raises(DigestMismatch, match=r"six-1\.0"):
        collect(locked, NOBLE, tmp_path, forged.download)


def test_a_package_without_a_wheel_for_that_machine_is_named(tmp_path: Path) -> None:
    locked = parse_lock(Index(wheel("six")).lock, NOBLE)
    with pytest.raises(BundleFailed, match=r"no wheel of six 1\.0 for cp312 on x86_64"):
        collect(locked, NOBLE, tmp_path, Index().download)


def test_pip_is_heard_when_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(BundleFailed, match=r"(?s)pip could not get the wheels:.*six==1\.0") as refused:
        pip_download(parse_lock(Index(wheel("six")).lock, NOBLE), NOBLE, tmp_path)
    assert "pip config list" in refused.value.hint


def test_pip_takes_the_wheel_for_the_other_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links, folder = tmp_path / "links", tmp_path / "folder"
    links.mkdir()
    folder.mkdir()
    wanted = wheel("six", tag="cp312-cp312-manylinux_2_28_aarch64")
    for filename, content in (wanted, wheel("six", tag="cp312-cp312-manylinux_2_28_x86_64")):
        (links / filename).write_bytes(content)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    target = Target("3.12", "aarch64")
    pip_download(parse_lock(Index(wanted).lock, target), target, folder)
    assert [path.name for path in folder.glob("*.whl")] == [wanted[0]]


def test_the_lock_of_a_bundle_is_the_one_in_its_wheel(tmp_path: Path) -> None:
    index = Index(wheel("six"), wheel("installer"))
    locked = read_lock(agent_wheel(tmp_path, index.lock), NOBLE)
    assert [(entry.name, entry.version) for entry in locked] == [("installer", "1.0"), ("six", "1.0")]
