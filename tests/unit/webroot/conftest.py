from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from s3sync_agent.layout import StatePaths
from s3sync_agent.plan import directories_of
from s3sync_agent.release import digest, encode_manifest
from s3sync_agent.webroot import Webroot
from s3sync_agent.webroot.staging import Staging, remove_tree
from tests.property.strategies import release_of

PAGES = {
    "about/index.html": b"<h1>about</h1>",
    "assets/app-3f2a9c1b.js": b"go()",
    "index.html": b"<h1>hello</h1>",
}
Commit = Callable[..., str]


@pytest.fixture
def webroot(tmp_path: Path) -> Iterator[Webroot]:
    webroot = Webroot(StatePaths(tmp_path / "state"))
    webroot.open()
    yield webroot
    webroot.close()
    remove_tree(tmp_path / "state")  # pytest cannot remove read-only directories


@pytest.fixture
def commit(webroot: Webroot) -> Commit:
    """Put a release on the disk as staging does; returns its id."""

    def commit(files: Mapping[str, bytes] = PAGES) -> str:
        manifest, _ = release_of(files)
        raw = encode_manifest(manifest)
        release = f"v1-{digest(raw)[:12]}"
        directories = directories_of(manifest)
        staging = webroot.stage(release)
        staging.make_directories(directories)
        fill(staging, files)
        webroot.commit(staging, release, raw, directories)
        return release

    return commit


def fill(staging: Staging, files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        file = staging.create(path)
        file.write(content)
        file.close(digest(content))


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
