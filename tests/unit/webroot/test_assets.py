from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from s3sync_agent.release import FileEntry
from s3sync_agent.webroot import Inventory, Webroot
from tests.property.strategies import entry_for
from tests.unit.webroot.conftest import Commit, tree

APP = entry_for("assets/app-3f2a9c1b.js", b"go()")
OLD = entry_for("assets/app-00a1b2c3.js", b"old()")


def kept(webroot: Webroot, release: str, *entries: FileEntry) -> Inventory:
    inventory = Inventory()
    inventory.add(webroot.paths.release(release), entries, {entry.sha256 for entry in entries})
    return inventory


def synced(webroot: Webroot, release: str, *entries: FileEntry) -> None:
    wanted = {entry.path: entry for entry in entries}
    webroot.sync_assets(wanted, kept(webroot, release, *entries).pristine)


def test_assets_are_links_of_what_the_releases_hold(webroot: Webroot, commit: Commit) -> None:
    release = commit()
    synced(webroot, release, APP)
    served = webroot.paths.assets / APP.path
    assert served.samefile(webroot.paths.release(release) / APP.path)


def test_what_is_wanted_no_more_goes_with_its_empty_directories(webroot: Webroot, commit: Commit) -> None:
    synced(webroot, commit({OLD.path: b"old()"}), OLD)
    synced(webroot, commit(), APP)
    assert tree(webroot.paths.assets) == {APP.path: b"go()"}
    webroot.sync_assets({}, lambda _: None)
    assert list(webroot.paths.assets.iterdir()) == []


def test_syncing_again_changes_nothing(webroot: Webroot, commit: Commit) -> None:
    release = commit()
    synced(webroot, release, APP)
    before = (webroot.paths.assets / APP.path).stat()
    synced(webroot, release, APP)
    assert (webroot.paths.assets / APP.path).stat() == before


def test_an_asset_that_was_changed_is_replaced(webroot: Webroot, commit: Commit) -> None:
    release = commit()
    (webroot.paths.assets / "assets").mkdir()
    (webroot.paths.assets / APP.path).write_bytes(b"stop()")
    synced(webroot, release, APP)
    assert tree(webroot.paths.assets) == {APP.path: b"go()"}
    assert list(webroot.paths.staging.iterdir()) == []


def test_an_asset_whose_content_is_nowhere_is_left_out(webroot: Webroot, commit: Commit) -> None:
    synced(webroot, commit(), APP, OLD)
    assert list(tree(webroot.paths.assets)) == [APP.path]


def test_a_file_becomes_a_directory(webroot: Webroot, commit: Commit) -> None:
    (webroot.paths.assets / "assets").write_bytes(b"once a file")
    synced(webroot, commit(), APP)
    assert tree(webroot.paths.assets) == {APP.path: b"go()"}


def test_a_link_to_a_directory_goes_and_what_it_leads_to_stays(
    webroot: Webroot, commit: Commit, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").write_bytes(b"")
    (webroot.paths.assets / "assets").symlink_to(tmp_path / "outside")
    synced(webroot, commit(), APP)
    assert tree(webroot.paths.assets) == {APP.path: b"go()"}
    assert (tmp_path / "outside/precious").exists()


def test_where_links_are_refused_a_whole_copy_appears_at_once(
    webroot: Webroot, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = commit()
    half_seen: list[bool] = []

    def refuse(*_: object, **__: object) -> None:  # a file system at its limit of links is not at hand
        half_seen.append((webroot.paths.assets / APP.path).exists())
        raise OSError(errno.EMLINK, "Too many links")

    monkeypatch.setattr(os, "link", refuse)
    synced(webroot, release, APP)
    assert half_seen == [False, False]
    assert tree(webroot.paths.assets) == {APP.path: b"go()"}
    assert list(webroot.paths.staging.iterdir()) == []
