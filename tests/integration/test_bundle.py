"""A real bundle, made by pip and installed by this machine's Python."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import cast

import pytest

from s3sync_agent import __version__
from s3sync_agent.deploy.bundle import Bundle, make_bundle
from s3sync_agent.deploy.bundle_main import this_machine
from s3sync_agent.deploy.wheels import Arch, Target

ROOT = Path(__file__).resolve().parents[2]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
ARCH = cast("Arch", platform.machine())

pytestmark = [
    pytest.mark.skipif(ARCH not in {"x86_64", "aarch64"}, reason="no bundles for this processor"),
    pytest.mark.skipif(not this_machine()["glibc"], reason="bundles are for GNU's C library"),
    pytest.mark.timeout(180),  # the first one downloads 18 MB
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=60)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def bundle(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(wheel, Target(PYTHON, ARCH), tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def prefix(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("opt") / "s3sync-agent"
    done = run(bundle.path, where)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return where


def run(bundle: Path, prefix: Path) -> subprocess.CompletedProcess[str]:
    return call(sys.executable, "-I", bundle, "--prefix", prefix)


def call(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """As on an instance: nothing of this tree's environment is inherited."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=90)


def home(bundle: Bundle) -> str:
    return f"{bundle.version}-{bundle.sha256[:12]}"


def test_the_same_wheels_give_the_same_file(wheel: Path, bundle: Bundle, tmp_path: Path) -> None:
    again = make_bundle(wheel, Target(PYTHON, ARCH), tmp_path)
    assert (again.path.name, again.sha256) == (bundle.path.name, bundle.sha256)


def test_what_was_installed_runs_from_its_own_directory(bundle: Bundle, prefix: Path) -> None:
    version = call(prefix / "bin" / "s3sync-agent", "--version")
    assert version.stdout == f"s3sync-agent, version {__version__}\n"
    assert (prefix / "current").readlink() == Path(home(bundle))
    where = call(
        prefix / "current/bin/python", "-c", "import s3sync_agent, boto3; print(s3sync_agent.__file__)"
    )
    assert Path(where.stdout.strip()).resolve().is_relative_to((prefix / home(bundle)).resolve())


def test_it_is_made_of_distributions_that_know_their_files(prefix: Path) -> None:
    script = """
import importlib.metadata as m
for d in m.distributions():
    assert d.read_text("INSTALLER") == "s3sync-bundle\\n"
    assert all(f.locate().exists() for f in d.files), d.name
print(*sorted(d.name for d in m.distributions()))
"""
    listed = call(prefix / "current" / "bin" / "python", "-c", script)
    assert listed.returncode == 0, listed.stderr
    names = listed.stdout.split()
    assert {"boto3", "click", "msgspec", "s3sync-agent", "structlog", "watchdog"} <= set(names)
    assert not {"installer", "pip", "pytest"} & set(names)


def test_byte_code_is_there_because_the_agent_may_not_write_it(bundle: Bundle, prefix: Path) -> None:
    library = prefix / home(bundle) / "lib" / f"python{PYTHON}" / "site-packages"
    assert list(library.glob("s3sync_agent/__pycache__/daemon.*.pyc"))
    assert list(library.glob("botocore/__pycache__/client.*.pyc"))


def test_installing_the_same_again_changes_nothing(bundle: Bundle, prefix: Path) -> None:
    before = (prefix / home(bundle)).stat()
    assert run(bundle.path, prefix).returncode == 0
    assert (prefix / home(bundle)).stat() == before


def test_an_interrupted_installation_is_made_anew(bundle: Bundle, tmp_path: Path) -> None:
    half = tmp_path / home(bundle)
    (half / "bin").mkdir(parents=True)
    (half / "bin" / "half").touch()
    assert run(bundle.path, tmp_path).returncode == 0
    assert not (half / "bin" / "half").exists()
    assert call(tmp_path / "bin" / "s3sync", "--version").returncode == 0


def test_a_newer_one_lies_beside_the_running_and_an_older_one_goes(bundle: Bundle, tmp_path: Path) -> None:
    running = tmp_path / "0.0.2-222222222222"
    oldest = tmp_path / "0.0.1-111111111111"
    for directory in (running, oldest):
        directory.mkdir()
        (directory / "bundle.json").touch()
    (tmp_path / "current").symlink_to(running.name)
    assert run(bundle.path, tmp_path).returncode == 0
    assert (tmp_path / "current").readlink() == Path(home(bundle))
    assert running.exists()
    assert not oldest.exists()


def test_two_at_once_do_not_mix(bundle: Bundle, tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = run(bundle.path, tmp_path)
    assert second.returncode == 2
    assert "another bundle is being installed" in second.stderr


def test_a_damaged_bundle_installs_nothing(bundle: Bundle, tmp_path: Path) -> None:
    damaged = tmp_path / bundle.path.name
    shutil.copy(bundle.path, damaged)
    with zipfile.ZipFile(damaged) as content:
        somewhere = content.getinfo(next(n for n in content.namelist() if n.startswith("wheels/botocore")))
    with damaged.open("r+b") as file:
        file.seek(somewhere.header_offset + 1000)
        file.write(b"tampered")
    refused = run(damaged, tmp_path / "opt")
    assert refused.returncode == 2
    assert "is not the file that its name says" in refused.stderr
    assert not (tmp_path / "opt").exists()


def test_a_bundle_for_another_machine_says_so(wheel: Path, tmp_path: Path) -> None:
    other: Arch = "aarch64" if ARCH == "x86_64" else "x86_64"
    foreign = make_bundle(wheel, Target(PYTHON, other), tmp_path)
    refused = run(foreign.path, tmp_path / "opt")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: this bundle is for {other}, this machine is {ARCH}\nhint: ")
    assert not (tmp_path / "opt").exists()
