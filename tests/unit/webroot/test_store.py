from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from s3sync_agent.errors import AgentBusy, ConfigError, ManifestInvalid
from s3sync_agent.layout import StatePaths
from s3sync_agent.release import digest, encode_manifest
from s3sync_agent.webroot import Inventory, Webroot
from tests.property.strategies import entry_for, release_of
from tests.unit.webroot.conftest import PAGES, Commit, fill, tree

OTHER = {"index.html": b"<h1>other</h1>"}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --------------------------------------------------------------------------- the lock


def test_one_agent_owns_a_state_directory(webroot: Webroot) -> None:
    second = Webroot(webroot.paths)
    with pytest.raises(AgentBusy):
        second.open()
    webroot.close()
    second.open()
    second.close()


def test_a_state_directory_that_cannot_be_made_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot be used"):
        Webroot(StatePaths(tmp_path / "file")).open()
    with pytest.raises(ConfigError, match="cannot be used"):
        Webroot(StatePaths(tmp_path / "file" / "below")).open()


def test_opening_again_changes_nothing(webroot: Webroot, commit: Commit) -> None:
    release = commit()
    webroot.close()
    webroot.open()
    assert webroot.complete() == {release}


# -------------------------------------------------------------------------- committing


def test_a_committed_release_is_whole_and_read_only(webroot: Webroot, commit: Commit) -> None:
    release = commit()
    root = webroot.paths.release(release)
    assert tree(root) == PAGES
    assert {mode(path) for path in (root, root / "about", root / "assets")} == {0o555}
    assert {mode(root / path) for path in PAGES} == {0o444}
    assert webroot.complete() == {release}
    assert list(webroot.paths.staging.iterdir()) == []


def test_its_manifest_is_there_as_it_was_stored(webroot: Webroot, commit: Commit) -> None:
    release = commit()
    assert webroot.manifest(release) == release_of(PAGES)[0]
    assert webroot.manifests() == {release: release_of(PAGES)[0]}


def test_a_tree_whose_manifest_was_lost_is_replaced_while_it_is_served(
    webroot: Webroot, commit: Commit
) -> None:
    release = commit()
    webroot.activate(webroot.arm(release, previous=None))
    webroot.paths.manifest(release).unlink()
    root = webroot.paths.release(release)
    (root / "index.html").chmod(0o644)
    (root / "index.html").write_bytes(b"damaged")
    assert webroot.complete() == frozenset()
    assert commit() == release
    assert tree(webroot.paths.live) == PAGES
    assert list(webroot.paths.staging.iterdir()) == []


def test_a_dangling_link_in_its_place_is_replaced(webroot: Webroot, commit: Commit) -> None:
    release = commit()
    webroot.delete_tree(release)
    webroot.paths.release(release).symlink_to("nowhere")
    assert commit() == release
    assert tree(webroot.paths.release(release)) == PAGES


def test_what_is_discarded_leaves_nothing(webroot: Webroot) -> None:
    staging = webroot.stage("v1-0123456789ab")
    staging.make_directories(["a", "a/b"])
    fill(staging, {"a/b/c": b""})
    staging.close_directories(["a", "a/b"])
    webroot.discard(staging)
    assert list(webroot.paths.staging.iterdir()) == []


@pytest.mark.parametrize("spoiled", [b"garbage", b""])
def test_a_manifest_that_was_changed_is_refused_and_not_among_the_others(
    webroot: Webroot, commit: Commit, spoiled: bytes
) -> None:
    release = commit()
    webroot.paths.manifest(release).write_bytes(spoiled)
    with pytest.raises(ManifestInvalid, match="was changed"):
        webroot.manifest(release)
    assert webroot.manifests() == {}


def test_a_manifest_that_cannot_be_read_is_refused(webroot: Webroot, commit: Commit) -> None:
    release = commit()
    webroot.paths.manifest(release).unlink()
    with pytest.raises(ManifestInvalid, match="is gone"):
        webroot.manifest(release)
    webroot.paths.manifest(release).mkdir()
    with pytest.raises(ManifestInvalid, match="cannot be read"):
        webroot.manifest(release)


def test_only_a_directory_with_a_manifest_is_complete(webroot: Webroot) -> None:
    raw = encode_manifest(release_of(PAGES)[0])
    name = f"v1-{digest(raw)[:12]}"
    webroot.paths.manifest(name).write_bytes(raw)
    assert webroot.complete() == frozenset()
    webroot.paths.release(name).write_bytes(b"no directory")
    assert webroot.complete() == frozenset()
    webroot.paths.release(name).unlink()
    webroot.paths.release(name).symlink_to(webroot.paths.root)
    assert webroot.complete() == frozenset()


# ------------------------------------------------------------------ live and previous


def test_what_is_live_is_read_from_the_link(webroot: Webroot, commit: Commit) -> None:
    release = commit()
    assert webroot.live() is None
    webroot.activate(webroot.arm(release, previous=None))
    assert (webroot.live(), webroot.previous()) == (release, None)
    assert str((webroot.paths.live).readlink()) == f"releases/{release}"


def test_previous_is_linked_before_live_and_each_is_durable_before_the_next(
    webroot: Webroot, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = commit(), commit(OTHER)
    webroot.activate(webroot.arm(first, previous=None))
    steps: list[str] = []
    rename, fsync = os.rename, os.fsync

    def spy_rename(source: str, target: str) -> None:
        rename(source, target)
        steps.append(f"rename {Path(target).name}")

    def spy_fsync(descriptor: int) -> None:
        fsync(descriptor)
        steps.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")

    monkeypatch.setattr(os, "rename", spy_rename)  # a power cut cannot be had in a unit test
    monkeypatch.setattr(os, "fsync", spy_fsync)
    webroot.activate(webroot.arm(second, previous=first))
    state = webroot.paths.root.name
    assert steps == ["rename previous", f"fsync {state}", "rename live", f"fsync {state}"]
    assert (webroot.live(), webroot.previous()) == (second, first)


def test_live_never_leads_nowhere_during_a_swap(
    webroot: Webroot, commit: Commit, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = commit(), commit(OTHER)
    webroot.activate(webroot.arm(first, previous=None))
    rename = os.rename

    def looking(source: str, target: str) -> None:
        assert (webroot.paths.live / "index.html").exists()
        rename(source, target)
        assert (webroot.paths.live / "index.html").exists()

    monkeypatch.setattr(os, "rename", looking)  # looks at the only moments there are
    webroot.activate(webroot.arm(second, previous=first))
    webroot.activate(webroot.arm(first, previous=second))


@pytest.mark.parametrize(
    "target",
    ["/etc", "releases/../../outside", "../outside", "releases", "releases/missing-0123456789ab", "."],
)
def test_a_link_that_leads_elsewhere_is_no_release(webroot: Webroot, target: str) -> None:
    webroot.paths.live.symlink_to(target)
    webroot.paths.previous.symlink_to(target)
    assert (webroot.live(), webroot.previous()) == (None, None)


def test_somebodys_directory_or_file_called_live_is_no_release_and_is_put_aside(
    webroot: Webroot, commit: Commit
) -> None:
    release = commit()
    webroot.paths.live.mkdir()
    webroot.paths.previous.write_bytes(b"")
    assert (webroot.live(), webroot.previous()) == (None, None)
    webroot.activate(webroot.arm(release, previous=release))
    assert (webroot.live(), webroot.previous()) == (release, release)


# --------------------------------------------------------------------------- sweeping


def test_a_sweep_removes_what_a_crash_left_and_nothing_else(webroot: Webroot, commit: Commit) -> None:
    live, previous, kept = commit(), commit(OTHER), commit({"index.html": b"kept"})
    webroot.activate(webroot.arm(previous, previous=None))
    webroot.activate(webroot.arm(live, previous=previous))
    staging = webroot.stage("v9-0123456789ab")
    staging.make_directories(["a"])
    staging.close_directories(["a"])
    staging.close()
    (webroot.paths.staging / "live.0011").symlink_to("nowhere")
    (webroot.paths.releases / "half-0123456789ab").mkdir()
    (webroot.paths.releases / "half-0123456789ab/x").write_bytes(b"")
    (webroot.paths.releases / "rubbish").write_bytes(b"")
    swept = webroot.sweep()
    assert swept == [
        "staging/live.0011",
        f"staging/{staging.root.name}",
        "releases/half-0123456789ab",
        "releases/rubbish",
    ]
    assert webroot.complete() == {live, previous, kept}
    assert list(webroot.paths.staging.iterdir()) == []
    assert webroot.sweep() == []


def test_what_is_live_stays_although_its_manifest_was_lost(webroot: Webroot, commit: Commit) -> None:
    live, previous = commit(), commit(OTHER)
    webroot.activate(webroot.arm(live, previous=previous))
    webroot.forget([live, previous])
    assert webroot.sweep() == []
    assert (webroot.live(), webroot.previous()) == (live, previous)


def test_a_damaged_manifest_is_swept_so_that_its_tree_is_staged_anew(
    webroot: Webroot, commit: Commit
) -> None:
    live, other = commit(), commit(OTHER)
    webroot.activate(webroot.arm(live, previous=None))
    for release in (live, other):
        webroot.paths.manifest(release).write_bytes(b"garbage")
    (webroot.paths.manifests / "rubbish.txt").write_bytes(b"")
    swept = webroot.sweep()
    assert {f"manifests/{live}.json", f"manifests/{other}.json", "manifests/rubbish.txt"} < set(swept)
    assert webroot.complete() == frozenset()
    assert tree(webroot.paths.live) == PAGES
    assert not webroot.paths.release(other).exists()


def test_a_link_among_the_releases_is_swept_and_what_it_leads_to_stays(
    webroot: Webroot, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    (webroot.paths.releases / "a-0123456789ab").symlink_to(outside)
    (webroot.paths.releases / "b-0123456789ab").symlink_to("nowhere")
    assert len(webroot.sweep()) == 2
    assert mode(outside) == 0o700


# ------------------------------------------------------------------ pruning, repairing


def test_a_read_only_tree_can_be_deleted_and_its_manifest_stays(webroot: Webroot, commit: Commit) -> None:
    release = commit()
    webroot.delete_tree(release)
    assert not webroot.paths.release(release).exists()
    assert webroot.paths.manifest(release).exists()
    assert webroot.manifests() == {}
    webroot.forget([release, "never-0123456789ab"])
    assert not webroot.paths.manifest(release).exists()


def test_a_manifest_without_its_tree_is_swept(webroot: Webroot, commit: Commit) -> None:
    release = commit()
    webroot.delete_tree(release)
    assert webroot.sweep() == [f"manifests/{release}.json"]


@pytest.mark.parametrize("content", [b"", b"garbage", b'{"a":1}', b"[1]", b"\xff"])
def test_unreadable_retained_assets_are_none(webroot: Webroot, content: bytes) -> None:
    webroot.paths.retained.write_bytes(content)
    assert webroot.retained() == ()


def replacement(webroot: Webroot, content: bytes) -> Path:
    path = webroot.paths.staging / "good"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("path", ["index.html", "about/index.html"])
def test_a_damaged_file_is_replaced_and_its_tree_is_read_only_again(
    webroot: Webroot, commit: Commit, path: str
) -> None:
    release = commit()
    root = webroot.paths.release(release)
    open_before = (root / path).open("rb")
    webroot.replace_file(release, path, replacement(webroot, b"good"))
    assert (root / path).read_bytes() == b"good"
    assert {mode(root), mode(root / "about")} == {0o555}
    with open_before:  # nginx may be sending it: served files are never written to
        assert open_before.read() == PAGES[path]


def test_a_file_comes_back_where_its_directory_became_a_file_or_a_link(
    webroot: Webroot, commit: Commit, tmp_path: Path
) -> None:
    release = commit()
    root = webroot.paths.release(release)
    (tmp_path / "outside").mkdir()
    for parent in ("file", "link", "nothing"):
        root.chmod(0o755)
        (root / "about").chmod(0o755)
        (root / "about/index.html").unlink()
        (root / "about").rmdir()
        if parent == "file":
            (root / "about").write_bytes(b"")
        if parent == "link":
            (root / "about").symlink_to(tmp_path / "outside")
        webroot.replace_file(release, "about/index.html", replacement(webroot, b"good"))
        assert (root / "about/index.html").read_bytes() == b"good"
        assert {mode(root), mode(root / "about")} == {0o555}
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_file_comes_back_where_it_became_a_directory(webroot: Webroot, commit: Commit) -> None:
    release = commit()
    root = webroot.paths.release(release)
    root.chmod(0o755)
    (root / "index.html").unlink()
    (root / "index.html/below").mkdir(parents=True)
    webroot.replace_file(release, "index.html", replacement(webroot, b"good"))
    assert (root / "index.html").read_bytes() == b"good"


def test_what_should_not_be_in_a_tree_is_removed(webroot: Webroot, commit: Commit) -> None:
    release = commit()
    root = webroot.paths.release(release)
    root.chmod(0o755)
    (root / "extra").write_bytes(b"")
    (root / "link").symlink_to("/etc")
    webroot.remove_extra(release, "extra")
    webroot.remove_extra(release, "link")
    assert tree(root) == PAGES
    assert mode(root) == 0o555


# -------------------------------------------------------------------------- inventory


def test_content_is_found_wherever_a_release_has_it_and_only_when_it_looks_right(
    webroot: Webroot, commit: Commit
) -> None:
    files = {"a": b"same", "b": b"same"}
    release = commit(files)
    root = webroot.paths.release(release)
    wanted = entry_for("new/name", b"same")
    inventory = Inventory()
    inventory.add(root, webroot.manifest(release).files, {wanted.sha256})
    assert inventory.places(wanted) == [f"{root}/a", f"{root}/b"]
    (root / "a").touch()
    assert inventory.pristine(wanted) == f"{root}/b"
    (root / "b").touch()
    assert inventory.pristine(wanted) is None
    assert inventory.places(entry_for("x", b"elsewhere")) == []


def test_space_is_what_the_file_system_has_left_for_us(webroot: Webroot) -> None:
    found = os.statvfs(webroot.paths.root)
    assert webroot.space().size == pytest.approx(found.f_bavail * found.f_frsize, rel=0.2)
    assert webroot.space().inodes is None or found.f_files
