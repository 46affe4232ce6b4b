"""What the wheel holds, and that building it twice gives the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = {
    "nginx": ROOT / "nginx",
    "systemd": ROOT / "systemd",
    "hooks": ROOT / "hooks",
    "example_site": ROOT / "examples" / "site",
}


def build(directory: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory, ROOT],
        check=True,
        capture_output=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
        timeout=50,
    )
    (wheel,) = directory.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(("name", "source"), DATA.items(), ids=DATA)
def test_the_wheel_holds_what_the_tree_has_once(wheel: Path, name: str, source: Path) -> None:
    prefix = f"s3sync_agent/data/{name}/"
    with zipfile.ZipFile(wheel) as archive:
        held = {n.removeprefix(prefix): archive.read(n) for n in archive.namelist() if n.startswith(prefix)}
    assert held == contents(source) != {}


@pytest.mark.parametrize(("name", "source"), DATA.items(), ids=DATA)
def test_an_editable_installation_finds_the_same_files(name: str, source: Path) -> None:
    with resources.as_file(resources.files("s3sync_agent") / "data" / name) as folder:
        assert contents(folder) == contents(source)


def test_the_wheel_installs_one_package_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        top = {name.partition("/")[0] for name in archive.namelist()}
        commands = archive.read(next(n for n in archive.namelist() if n.endswith("entry_points.txt")))
    assert {name.partition("-")[0] for name in top} == {"s3sync_agent"}
    assert {b"s3sync", b"s3sync-agent"} <= {line.partition(b" ")[0] for line in commands.splitlines()}


def test_the_same_tree_gives_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    again = build(tmp_path)
    assert (again.name, again.read_bytes()) == (wheel.name, wheel.read_bytes())
