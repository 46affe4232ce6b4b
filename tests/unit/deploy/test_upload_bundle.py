from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from s3sync_agent.cli.operator import main
from s3sync_agent.deploy.bundle_name import BundleName, parse
from s3sync_agent.deploy.upload_bundle import upload_bundle
from s3sync_agent.errors import BundleFailed, ConfigError
from tests.fakes import MemoryBucket
from tests.releases import SITE

CONTENT = b"a program that installs itself"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / str(BundleName("1.2.3", "3.12", "x86_64", SHA256[:12]))
    path.write_bytes(CONTENT)
    return path


def test_a_name_says_what_is_in_the_file_and_what_for() -> None:
    name = BundleName("1.2.3rc1", "3.9", "aarch64", SHA256[:12])
    assert str(name) == f"s3sync-agent-1.2.3rc1-cp39-aarch64-{SHA256[:12]}.pyz"
    assert parse(str(name), sha256=SHA256) == name


@pytest.mark.parametrize(
    "name",
    [
        "agent.pyz",
        f"../s3sync-agent-1-cp312-x86_64-{SHA256[:12]}.pyz",
        f"s3sync-agent-1-cp312-arm-{SHA256[:12]}.pyz",
    ],
)
def test_another_name_is_none(name: str) -> None:
    with pytest.raises(ConfigError, match="not named like a bundle"):
        parse(name, sha256=SHA256)


def test_it_goes_to_where_user_data_fetches_it_from(path: Path) -> None:
    bucket = MemoryBucket()
    assert upload_bundle(bucket, SITE, path)
    assert bucket.get(SITE.bundle(path.name), limit=1000).body == CONTENT


def test_uploading_it_again_changes_nothing(path: Path) -> None:
    bucket = MemoryBucket()
    upload_bundle(bucket, SITE, path)
    before = bucket.head(SITE.bundle(path.name))
    assert not upload_bundle(bucket, SITE, path)
    assert bucket.head(SITE.bundle(path.name)) == before


def test_a_file_that_is_not_what_its_name_says_stays_here(path: Path) -> None:
    bucket = MemoryBucket()
    path.write_bytes(CONTENT + b"!")
    with pytest.raises(ConfigError, match="is not the SHA-256 of"):
        upload_bundle(bucket, SITE, path)
    assert list(bucket.list("")) == []


def test_another_one_under_its_name_is_not_written_over(path: Path) -> None:
    bucket, other = MemoryBucket(), b"something else"
    bucket.put(SITE.bundle(path.name), other, size=len(other), sha256=hashlib.sha256(other).hexdigest())
    with pytest.raises(BundleFailed, match="is not the file that its name says") as failed:
        upload_bundle(bucket, SITE, path)
    assert "delete it" in failed.value.hint
    assert bucket.get(SITE.bundle(path.name), limit=1000).body == other


def test_the_command_prints_where_it_is(path: Path) -> None:
    bucket = MemoryBucket()
    arguments = ["bundle", "--upload", str(path), "--site", SITE.url]
    first = CliRunner().invoke(main, arguments, obj=lambda _: bucket)
    assert (first.exit_code, first.stderr) == (0, "uploaded\n")
    assert first.stdout == f"s3://{SITE.bucket}/{SITE.bundle(path.name)}\n"
    assert CliRunner().invoke(main, arguments, obj=lambda _: bucket).stderr == "it was there already\n"
    nowhere = CliRunner().invoke(main, arguments[:3], env={"S3SYNC_SITE": None})
    assert (nowhere.exit_code, nowhere.stderr.splitlines()[0]) == (2, "error: which site is the bundle for?")
