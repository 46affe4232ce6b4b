from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from s3sync_agent.deploy import bundle_main
from s3sync_agent.deploy.bundle import archive, find_wheel, make_bundle
from s3sync_agent.deploy.bundle_main import Refused, check_machine, check_name, this_machine
from s3sync_agent.deploy.wheels import Target
from s3sync_agent.errors import BundleFailed
from tests.unit.deploy.wheel_files import Index, agent_wheel, wheel

TARGET = Target("3.12", "x86_64")
INDEX = Index(
    wheel("six", "1.17.0", headers=["License: MIT"]),
    wheel("installer", "1.1.0", files={"installer/t64.exe": b"MZ"}),
)


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    return agent_wheel(tmp_path / "dist", INDEX.lock)


# ------------------------------------------------------------------------ the bundle


def test_the_name_says_version_python_machine_and_digest(agent: Path, tmp_path: Path) -> None:
    made = make_bundle(agent, TARGET, tmp_path / "out", download=INDEX.download)
    assert made.sha256 == hashlib.sha256(made.path.read_bytes()).hexdigest()
    assert made.path.name == f"s3sync-agent-1.2.3-cp312-x86_64-{made.sha256[:12]}.pyz"
    assert list((tmp_path / "out").iterdir()) == [made.path]


def test_made_twice_it_is_the_same_file(agent: Path, tmp_path: Path) -> None:
    once = make_bundle(agent, TARGET, tmp_path / "one", download=INDEX.download)
    again = make_bundle(agent, TARGET, tmp_path / "two", download=INDEX.download)
    assert once.path.name == again.path.name
    assert once.path.read_bytes() == again.path.read_bytes()


def test_it_bears_no_time_no_owner_and_no_order_of_this_machine() -> None:
    content = archive({"b": b"2", "a": b"1"})
    assert content == archive({"a": b"1", "b": b"2"})


def test_the_library_that_unpacks_lies_beside_the_wheels(agent: Path, tmp_path: Path) -> None:
    made = make_bundle(agent, TARGET, tmp_path / "out", download=INDEX.download)
    with zipfile.ZipFile(made.path) as bundle:
        names = bundle.namelist()
        assert all(
            (entry.date_time, entry.external_attr >> 16) == ((1980, 1, 1, 0, 0, 0), 0o100644)
            for entry in bundle.infolist()
        )
        description = json.loads(bundle.read("bundle.json"))
    assert names == sorted(names)
    assert {"__main__.py", "installer/__init__.py", "sbom.cdx.json"} <= set(names)
    assert [name for name in names if name.endswith((".whl", ".exe"))] == [
        "wheels/s3sync_agent-1.2.3-py3-none-any.whl",
        "wheels/six-1.17.0-py3-none-any.whl",
    ]
    assert description == {
        "type": "s3sync-bundle",
        "schema": 1,
        "version": "1.2.3",
        "python": "3.12",
        "arch": "x86_64",
        "glibc": "2.34",
        "wheels": ["s3sync_agent-1.2.3-py3-none-any.whl", "six-1.17.0-py3-none-any.whl"],
    }


def test_the_sbom_names_every_wheel_with_digest_licence_and_needs(agent: Path, tmp_path: Path) -> None:
    made = make_bundle(agent, TARGET, tmp_path / "out", download=INDEX.download)
    with zipfile.ZipFile(made.path) as bundle:
        sbom = json.loads(bundle.read("sbom.cdx.json"))
    subject = sbom["metadata"]["component"]
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    assert (subject["purl"], subject["licenses"]) == (
        "pkg:pypi/s3sync-agent@1.2.3",
        [{"expression": "Apache-2.0"}],
    )
    six = next(part for part in sbom["components"] if part["name"] == "six")
    assert six["hashes"] == [
        {"alg": "SHA-256", "content": hashlib.sha256(INDEX.wheels["six-1.17.0-py3-none-any.whl"]).hexdigest()}
    ]
    assert six["licenses"] == [{"license": {"name": "MIT"}}]
    assert {part["name"] for part in sbom["components"]} == {"six", "installer"}
    needs = {part["ref"]: part["dependsOn"] for part in sbom["dependencies"]}
    assert needs["pkg:pypi/s3sync-agent@1.2.3"] == ["pkg:pypi/six@1.17.0"]
    assert "timestamp" not in sbom["metadata"]


def test_a_wheel_of_something_else_is_refused(tmp_path: Path) -> None:
    filename, content = wheel("six")
    (tmp_path / filename).write_bytes(content)
    with pytest.raises(BundleFailed, match="is a wheel of six, not of s3sync-agent"):
        make_bundle(tmp_path / filename, TARGET, tmp_path / "out", download=INDEX.download)


def test_without_a_wheel_in_dist_or_with_two_it_asks_which(agent: Path, tmp_path: Path) -> None:
    assert find_wheel(agent.parent) == agent
    with pytest.raises(BundleFailed, match="holds no wheel"):
        find_wheel(tmp_path)
    agent_wheel(agent.parent, INDEX.lock, version="1.2.4")
    with pytest.raises(BundleFailed, match="holds 2 wheels"):
        find_wheel(agent.parent)


# ------------------------------------------------------------- what an instance checks

FITS = {"implementation": "CPython", "python": "3.12", "arch": "x86_64", "glibc": "2.36"}
WANTED = {"python": "3.12", "arch": "x86_64", "glibc": "2.34"}


def test_a_machine_that_fits_is_taken() -> None:
    check_machine(WANTED, FITS)
    check_machine(WANTED, FITS | {"glibc": "2.34"})


@pytest.mark.parametrize(
    ("differs", "sentence"),
    [
        ({"python": "3.9"}, "this bundle is for CPython 3.12, this is CPython 3.9"),
        ({"implementation": "PyPy"}, "this bundle is for CPython 3.12, this is PyPy 3.12"),
        ({"arch": "aarch64"}, "this bundle is for x86_64, this machine is aarch64"),
        ({"glibc": "2.9"}, "this bundle needs glibc 2.34 or newer, this machine has 2.9"),
        ({"glibc": ""}, "this bundle needs glibc 2.34 or newer, this machine has another C library"),
    ],
)
def test_any_other_machine_is_told_why_not(differs: dict[str, str], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence) as refused:
        check_machine(WANTED, FITS | differs)
    assert refused.value.hint


def test_a_python_that_is_too_old_can_read_the_program_that_tells_it_so() -> None:
    ast.parse(Path(bundle_main.__file__).read_text(), feature_version=(3, 7))


def test_this_machine_is_described_by_what_it_is() -> None:
    machine = this_machine()
    assert machine["implementation"] == "CPython"
    assert machine["python"].startswith("3.")
    assert set(machine) == set(FITS)


def test_one_changed_byte_anywhere_is_noticed(agent: Path, tmp_path: Path) -> None:
    made = make_bundle(agent, TARGET, tmp_path / "out", download=INDEX.download)
    assert check_name(made.path) == made.sha256[:12]
    content = bytearray(made.path.read_bytes())
    content[len(content) // 2] ^= 1
    made.path.write_bytes(content)
    with pytest.raises(Refused, match="is not the file that its name says"):
        check_name(made.path)


def test_a_bundle_under_another_name_has_lost_its_digest(agent: Path, tmp_path: Path) -> None:
    made = make_bundle(agent, TARGET, tmp_path / "out", download=INDEX.download)
    with pytest.raises(Refused, match=r"agent\.pyz has no digest in its name"):
        check_name(made.path.rename(tmp_path / "agent.pyz"))


def test_a_version_whose_removal_was_interrupted_counts_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("0.0.1-111111111111", "0.0.2-222222222222", "0.0.3-333333333333"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bundle.json").touch()
    (tmp_path / "current").symlink_to("0.0.2-222222222222")

    def killed(path: Path) -> None:
        raise SystemExit(path)

    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(SystemExit, match=r"0\.0\.1-1"):
        bundle_main._make_current(tmp_path / "0.0.3-333333333333", tmp_path)
    assert not (tmp_path / "0.0.1-111111111111" / "bundle.json").exists()


def test_a_version_that_somebody_runs_is_kept(tmp_path: Path) -> None:
    home = tmp_path / "1.2.3-abababababab"
    (home / "bin").mkdir(parents=True)
    (home / "bin/python").symlink_to(sys.executable)
    assert not bundle_main._runs(home)
    command = [str(home / "bin/python"), "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # before that it may have no name yet
        assert bundle_main._runs(home)
        assert not bundle_main._runs(tmp_path / "1.2.3-cdcdcdcdcdcd")
        process.communicate(b"end\n", timeout=10)
