from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from s3sync_agent.deploy.check import check_site

PLAIN = b"app()\n" * 100_000


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "index.html").touch()
    (tmp_path / "app.js").write_bytes(PLAIN)
    return tmp_path


def faults(site: Path) -> list[tuple[str, str, str]]:
    return [(finding.file, finding.code, finding.message) for finding in check_site(site).errors]


@pytest.mark.parametrize(
    "copy",
    [gzip.compress(PLAIN), gzip.compress(PLAIN[:7]) + gzip.compress(PLAIN[7:])],
    ids=["in one", "in two members"],
)
def test_a_copy_that_unpacks_to_its_original_is_sound(site: Path, copy: bytes) -> None:
    (site / "app.js.gz").write_bytes(copy)
    assert faults(site) == []


@pytest.mark.parametrize(
    "content", [b"", PLAIN[:-1], PLAIN + b"x", PLAIN[:-1] + b"x"], ids=["empty", "short", "long", "other"]
)
def test_a_copy_of_something_else_is_refused(site: Path, content: bytes) -> None:
    (site / "app.js.gz").write_bytes(gzip.compress(content))
    assert faults(site) == [("app.js.gz", "stale-copy", "it is no compressed copy of 'app.js'")]


@pytest.mark.parametrize(
    "copy",
    [PLAIN, b"", gzip.compress(PLAIN)[:-9], gzip.compress(PLAIN)[:-9] + b"?" * 9],
    ids=["no gzip", "no byte", "cut off", "garbled"],
)
def test_what_cannot_be_unpacked_is_refused(site: Path, copy: bytes) -> None:
    (site / "app.js.gz").write_bytes(copy)
    assert faults(site) == [("app.js.gz", "stale-copy", "it is no compressed copy of 'app.js'")]


def test_an_empty_file_and_its_copy_are_sound(site: Path) -> None:
    (site / "app.js").write_bytes(b"")
    (site / "app.js.gz").write_bytes(gzip.compress(b""))
    assert faults(site) == []


def test_only_what_nginx_would_send_in_place_of_another_file_is_looked_into(site: Path) -> None:
    for name in ("other.js.gz", "app.js.br", "app.js.zst"):
        (site / name).write_bytes(b"anything")
    assert faults(site) == []
