from __future__ import annotations

import logging
import os
import queue
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog.observers import inotify_c

from s3sync_agent import layout
from s3sync_agent.drift import Finding, Watcher, hash_file, inspect, scan, scan_paths
from s3sync_agent.release import Manifest, digest
from tests.property.strategies import release_of

FILES = {"a/b/c.css": b"c" * 100, "a/d.css": b"d" * 100, "index.html": b"<h1>hello</h1>"}
hides_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    moment = layout.mtime_for(digest(content))
    os.utime(path, (moment, moment))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for path, content in FILES.items():
        write(tmp_path / "tree" / path, content)
    return tmp_path / "tree"


@pytest.fixture
def manifest() -> Manifest:
    return release_of(FILES)[0]


def found(tree: Path, manifest: Manifest, *, hashing: bool = True) -> list[Finding]:
    return scan(tree, manifest, hashing=hashing, beat=lambda: None)


def test_a_tree_as_it_should_be_has_no_findings(tree: Path, manifest: Manifest) -> None:
    assert found(tree, manifest) == []
    assert scan_paths(tree, manifest, [*FILES, "a", "a/b"]) == []


def test_what_is_missing_changed_and_extra_is_found(tree: Path, manifest: Manifest) -> None:
    (tree / "index.html").unlink()
    write(tree / "a/d.css", b"D" * 100)
    write(tree / "a/new.css", b"")
    assert found(tree, manifest) == [
        Finding("a/d.css", "changed"),
        Finding("index.html", "missing"),
        Finding("a/new.css", "extra"),
    ]


def test_a_change_that_keeps_size_and_mtime_is_found_by_hashing_alone(tree: Path, manifest: Manifest) -> None:
    kept = (tree / "index.html").stat().st_mtime
    (tree / "index.html").write_bytes(b"<h1>HELLO</h1>")
    os.utime(tree / "index.html", (kept, kept))
    assert found(tree, manifest, hashing=False) == []
    assert found(tree, manifest, hashing=True) == [Finding("index.html", "changed")]


def test_a_link_or_a_directory_is_not_a_file_whatever_it_leads_to(tree: Path, manifest: Manifest) -> None:
    (tree / "index.html").rename(tree.parent / "elsewhere.html")
    (tree / "index.html").symlink_to(tree.parent / "elsewhere.html")
    (tree / "a/d.css").unlink()
    (tree / "a/d.css").mkdir()
    assert found(tree, manifest) == [Finding("a/d.css", "changed"), Finding("index.html", "changed")]


def test_a_link_to_a_directory_is_extra_and_not_followed(tree: Path, manifest: Manifest) -> None:
    (tree / "etc").symlink_to("/etc")
    assert found(tree, manifest) == [Finding("etc", "extra")]
    assert scan_paths(tree, manifest, ["etc"]) == [Finding("etc", "extra")]


def test_a_directory_that_became_a_file_takes_its_files_along(tree: Path, manifest: Manifest) -> None:
    (tree / "a/b/c.css").unlink()
    (tree / "a/b").rmdir()
    (tree / "a/b").write_bytes(b"")
    assert found(tree, manifest) == [Finding("a/b/c.css", "missing"), Finding("a/b", "extra")]


@hides_permissions
def test_a_file_that_cannot_be_read_cannot_be_served_either(tree: Path, manifest: Manifest) -> None:
    (tree / "index.html").chmod(0)
    assert found(tree, manifest) == [Finding("index.html", "changed")]


def test_a_bad_sector_is_a_finding_and_no_failure(
    tree: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_path: str) -> str:  # no disk at hand is broken
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("s3sync_agent.drift.hash_file", unreadable)
    assert inspect(tree, manifest.files[0], hashing=True) == "changed"


def test_only_what_was_touched_is_looked_at(tree: Path, manifest: Manifest) -> None:
    write(tree / "index.html", b"other")
    write(tree / "a/d.css", b"other")
    assert scan_paths(tree, manifest, ["index.html"]) == [Finding("index.html", "changed")]
    assert scan_paths(tree, manifest, ["a"]) == [Finding("a/d.css", "changed")]
    assert scan_paths(tree, manifest, ["nothing/here"]) == []


def test_a_directory_that_was_moved_in_is_extra_with_all_its_files(tree: Path, manifest: Manifest) -> None:
    write(tree / "new/x", b"")
    write(tree / "new/y/z", b"")
    assert scan_paths(tree, manifest, ["new"]) == [Finding("new/x", "extra"), Finding("new/y/z", "extra")]


def test_names_that_are_no_utf8_are_found_too(tree: Path, manifest: Manifest) -> None:
    write(tree / os.fsdecode(b"caf\xe9"), b"")
    assert found(tree, manifest) == [Finding("caf\udce9", "extra")]


def test_hashing_never_follows_a_link(tree: Path) -> None:
    assert hash_file(tree / "index.html") == digest(FILES["index.html"])
    (tree / "link").symlink_to("index.html")
    with pytest.raises(OSError, match="symbolic links"):
        hash_file(tree / "link")


# --------------------------------------------------------------------------- watching

Touched = queue.SimpleQueue[tuple[Path, str]]


@pytest.fixture
def touched() -> Touched:
    return queue.SimpleQueue()


@pytest.fixture
def overflows() -> list[bool]:
    return []


@pytest.fixture
def watcher(touched: Touched, overflows: list[bool]) -> Iterator[Watcher]:
    watcher = Watcher(lambda root, path: touched.put((root, path)), lambda: overflows.append(True))
    yield watcher
    watcher.stop()


def test_a_change_is_told_by_its_root_and_path(watcher: Watcher, touched: Touched, tree: Path) -> None:
    watcher.watch((tree,))
    (tree / "a/d.css").write_bytes(b"other")
    assert touched.get(timeout=10) == (tree, "a/d.css")


def test_reading_is_no_change(watcher: Watcher, touched: Touched, tree: Path) -> None:
    watcher.watch((tree,))
    for _ in range(100):
        (tree / "index.html").read_bytes()
    (tree / "last").write_bytes(b"")
    assert touched.get(timeout=10) == (tree, "last")


def test_a_move_touches_both_names(watcher: Watcher, touched: Touched, tree: Path) -> None:
    watcher.watch((tree,))
    (tree / "index.html").rename(tree / "a/moved.html")
    seen: set[str] = set()
    while not {"index.html", "a/moved.html"} <= seen:
        seen.add(touched.get(timeout=10)[1])


def test_watching_other_directories_forgets_the_first(
    watcher: Watcher, touched: Touched, tree: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    watcher.watch((tree,))
    watcher.watch((other,))
    (tree / "index.html").unlink()
    (other / "x").write_bytes(b"")
    assert touched.get(timeout=10) == (other, "x")


def test_a_directory_that_cannot_be_watched_is_an_error_and_nothing_is_watched(
    watcher: Watcher, touched: Touched, tree: Path
) -> None:
    with pytest.raises(OSError, match="No such file"):
        watcher.watch((tree, tree / "missing"))
    (tree / "index.html").unlink()
    watcher.watch((tree,))
    (tree / "x").write_bytes(b"")
    assert touched.get(timeout=10) == (tree, "x")


def test_to_watch_nothing_is_no_error_and_ends_what_was_watched(
    watcher: Watcher, touched: Touched, tree: Path
) -> None:
    watcher.watch((tree,))
    watcher.watch(())
    (tree / "index.html").rename(tree / "other.html")
    assert touched.empty()


def test_events_that_were_lost_are_told_while_something_is_watched(
    watcher: Watcher, overflows: list[bool], tree: Path
) -> None:
    log = logging.getLogger("watchdog.observers.inotify_c")
    log.warning("Inotify queue overflowed; filesystem events were lost")
    assert overflows == []
    watcher.watch((tree,))
    log.warning("Inotify queue overflowed; filesystem events were lost")
    assert overflows == [True]
    watcher.stop()
    log.warning("Inotify queue overflowed; filesystem events were lost")
    assert overflows == [True]


def test_the_library_still_says_so_in_these_words() -> None:
    assert "Inotify queue overflowed" in Path(inotify_c.__file__).read_text()


_FEW_WATCHES = """
import sys
from pathlib import Path
from s3sync_agent.drift import Watcher
try:
    Watcher(lambda _root, _path: None, lambda: None).watch((Path(sys.argv[1]),))
except OSError:
    sys.exit(7)
sys.exit(0)
"""


@pytest.mark.parametrize(("watches", "code"), [(20, 7), (80, 0)])
def test_a_kernel_without_enough_watches_is_an_error_and_never_half_a_watch(
    tmp_path: Path, watches: int, code: int
) -> None:
    tree = tmp_path / "tree"
    for number in range(50):
        (tree / f"d{number}").mkdir(parents=True)
    limited = f'echo {watches} > /proc/sys/user/max_inotify_watches && exec "$@"'
    namespace = ["unshare", "--user", "--map-root-user", "sh", "-c"]
    if subprocess.run([*namespace, limited, "sh", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    command = [*namespace, limited, "sh", sys.executable, "-c", _FEW_WATCHES, str(tree)]
    assert subprocess.run(command, check=False, timeout=30).returncode == code


def test_nothing_to_watch_is_no_fault() -> None:
    watcher = Watcher(lambda _root, _path: None, lambda: None)
    watcher.watch(())
    watcher.stop()
