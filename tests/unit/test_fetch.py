from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from s3sync_agent import layout
from s3sync_agent.bucket import Listed
from s3sync_agent.errors import (
    DigestMismatch,
    ReleaseMissing,
    SourceChanged,
    StoreUnavailable,
)
from s3sync_agent.fetch import OBJECTS_IN_FLIGHT, PARTS_IN_FLIGHT, fetch_objects, fetch_pack
from s3sync_agent.plain import Object, read_listing
from s3sync_agent.plan import MAX_GAP, PART_SIZE, Plan, directories_of, make_plan
from s3sync_agent.release import FileEntry, Manifest, digest
from s3sync_agent.webroot.staging import Staging, is_pristine, remove_tree
from tests.fakes import MemoryBucket
from tests.property.strategies import manifest_of, release_of
from tests.releases import SITE

KEY = "pack"
FILES = {
    "about/index.html": b"<h1>about</h1>" * 100,
    "copy.html": b"<h1>hello</h1>" * 100,
    "empty.txt": b"",
    "index.html": b"<h1>hello</h1>" * 100,
    "logo.png": bytes(range(256)) * 4,
}


def quiet() -> None:
    """No progress to note."""


@pytest.fixture
def bucket() -> MemoryBucket:
    return MemoryBucket()


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[Staging]:
    staging = Staging(tmp_path / "tree")
    yield staging
    staging.close()
    remove_tree(staging.root)


def tree(staging: Staging) -> dict[str, bytes]:
    return {
        str(path.relative_to(staging.root)): path.read_bytes()
        for path in sorted(staging.root.rglob("*"))
        if path.is_file()
    }


def fetch(bucket: MemoryBucket, staging: Staging, manifest: Manifest, plan: Plan) -> None:
    staging.make_directories(directories_of(manifest))
    fetch_pack(bucket, KEY, plan, staging, quiet)


# ------------------------------------------------------------------------------- pack


def test_a_whole_release_comes_in_one_request(bucket: MemoryBucket, staging: Staging) -> None:
    manifest, stored = release_of(FILES)
    bucket.place(KEY, stored)
    fetch(bucket, staging, manifest, make_plan(manifest, ()))
    assert tree(staging) == FILES
    assert bucket.requests == [("get_range", KEY)]


def test_every_file_has_its_mtime_and_equal_files_are_one(bucket: MemoryBucket, staging: Staging) -> None:
    manifest, stored = release_of(FILES)
    bucket.place(KEY, stored)
    fetch(bucket, staging, manifest, make_plan(manifest, ()))
    assert all(is_pristine(staging.root / entry.path, entry) for entry in manifest.files)
    assert all((staging.root / path).stat().st_mode & 0o222 == 0 for path in FILES)
    assert (staging.root / "copy.html").samefile(staging.root / "index.html")


def test_only_what_is_missing_is_fetched(bucket: MemoryBucket, staging: Staging) -> None:
    manifest, stored = release_of(FILES)
    bucket.place(KEY, stored)
    fetch(bucket, staging, manifest, make_plan(manifest, FILES.keys() - {"logo.png"}))
    assert tree(staging) == {"logo.png": FILES["logo.png"]}


def test_empty_files_are_made_without_asking(bucket: MemoryBucket, staging: Staging) -> None:
    manifest, _ = release_of({"a": b"", "b/c": b""})
    fetch(bucket, staging, manifest, make_plan(manifest, ()))
    assert tree(staging) == {"a": b"", "b/c": b""}
    assert bucket.requests == []


def large(count: int, *, gap: int = 0, size: int = PART_SIZE) -> tuple[Manifest, bytes]:
    """Files of about a part each, `gap` unwanted bytes between them."""
    stored = b""
    entries = []
    for number in range(count):
        content = bytes([number]) * size
        entries.append(
            FileEntry(f"{number:02}", size, digest(content), len(stored), size, "identity", immutable=False)
        )
        stored += content + bytes(gap)
    return manifest_of(entries, stored), stored


def test_a_file_may_lie_in_several_parts_and_a_part_hold_several_files(
    bucket: MemoryBucket, staging: Staging
) -> None:
    manifest, stored = large(3, size=PART_SIZE * 3 // 4)
    bucket.place(KEY, stored)
    plan = make_plan(manifest, ())
    fetch(bucket, staging, manifest, plan)
    assert [digest(body) for body in tree(staging).values()] == [entry.sha256 for entry in manifest.files]
    assert bucket.count("get_range") == plan.requests == 3


class Slow(MemoryBucket):
    """Answers no ranged GET before so many have been asked for at once."""

    def __init__(self, together: int) -> None:
        super().__init__()
        self._all_here = threading.Barrier(together, timeout=10)
        self.asked = 0
        self.most_ahead = 0
        self.taken: Callable[[], int] = lambda: 0

    def get_range(self, key: str, start: int, end: int) -> bytes:
        with self._lock:
            self.asked += 1
            self.most_ahead = max(self.most_ahead, self.asked - self.taken())
        self._all_here.wait()
        return super().get_range(key, start, end)


def test_parts_are_asked_for_ahead_also_across_gaps(staging: Staging) -> None:
    manifest, stored = large(2 * PARTS_IN_FLIGHT, gap=MAX_GAP + 1, size=100)
    bucket = Slow(together=PARTS_IN_FLIGHT)
    bucket.place(KEY, stored)
    plan = make_plan(manifest, ())
    assert len(plan.spans) == 2 * PARTS_IN_FLIGHT
    fetch(bucket, staging, manifest, plan)
    assert len(tree(staging)) == 2 * PARTS_IN_FLIGHT


def test_no_more_than_four_parts_are_ever_ahead_of_the_one_being_unpacked(staging: Staging) -> None:
    manifest, stored = large(12, gap=MAX_GAP + 1, size=100)
    bucket = Slow(together=1)
    bucket.place(KEY, stored)
    bucket.taken = lambda: sum(1 for _ in staging.root.iterdir())  # a file is begun with its part
    fetch(bucket, staging, manifest, make_plan(manifest, ()))
    assert bucket.asked == 12
    assert bucket.most_ahead <= PARTS_IN_FLIGHT + 1


def flip(bucket: MemoryBucket) -> None:
    bucket.corrupt(KEY, at=10)


def cut(bucket: MemoryBucket) -> None:
    bucket.truncate(KEY, len(bucket.objects[KEY].body) - 1)


@pytest.mark.parametrize("damage", [flip, cut])
def test_a_damaged_pack_is_refused(
    bucket: MemoryBucket, staging: Staging, damage: Callable[[MemoryBucket], None]
) -> None:
    manifest, stored = release_of(FILES)
    bucket.place(KEY, stored)
    damage(bucket)
    with pytest.raises(DigestMismatch):
        fetch(bucket, staging, manifest, make_plan(manifest, ()))


def test_a_frame_that_unpacks_to_more_than_was_announced_is_refused(
    bucket: MemoryBucket, staging: Staging
) -> None:
    manifest, stored = release_of({"bomb.html": bytes(50_000_000)})
    bucket.place(KEY, stored)
    entry = manifest.files[0]
    small = FileEntry(entry.path, 100, digest(bytes(100)), 0, entry.length, "zstd", immutable=False)
    announced = manifest_of([small], stored)
    with pytest.raises(DigestMismatch, match="larger than the 100 bytes"):
        fetch(bucket, staging, announced, make_plan(announced, ()))
    assert (staging.root / "bomb.html").stat().st_size <= 100


def test_a_pack_that_is_gone_is_a_missing_release(bucket: MemoryBucket, staging: Staging) -> None:
    manifest, _ = release_of(FILES)
    with pytest.raises(ReleaseMissing, match="the pack"):
        fetch(bucket, staging, manifest, make_plan(manifest, ()))


def test_a_broken_connection_is_said_as_it_is(bucket: MemoryBucket, staging: Staging) -> None:
    manifest, stored = release_of(FILES)
    bucket.place(KEY, stored)
    bucket.fail_next("get_range", StoreUnavailable("the connection broke"))
    with pytest.raises(StoreUnavailable):
        fetch(bucket, staging, manifest, make_plan(manifest, ()))


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count


@pytest.mark.parametrize("damage", [flip, cut])
def test_a_failure_leaves_no_file_open(
    bucket: MemoryBucket, staging: Staging, damage: Callable[[MemoryBucket], None]
) -> None:
    manifest, stored = release_of(FILES)
    bucket.place(KEY, stored)
    damage(bucket)
    before = open_files()
    with pytest.raises(DigestMismatch):
        fetch(bucket, staging, manifest, make_plan(manifest, ()))
    assert open_files() == before


def test_work_stops_where_the_agent_is_to_stop(bucket: MemoryBucket, staging: Staging) -> None:
    class Stop(BaseException):
        pass

    beats = iter([None, Stop()])

    def beat() -> None:
        if stop := next(beats):
            raise stop

    manifest, stored = large(10, gap=MAX_GAP + 1, size=100)
    bucket.place(KEY, stored)
    with pytest.raises(Stop):
        fetch_pack(bucket, KEY, make_plan(manifest, ()), staging, beat)
    assert bucket.count("get_range") <= PARTS_IN_FLIGHT + 1


# ---------------------------------------------------------------------------- objects


def push(bucket: MemoryBucket, files: Mapping[str, bytes] = FILES) -> tuple[Object, ...]:
    """Bare files in `current/`, and what a listing shows of them."""
    for path, body in files.items():
        bucket.place(SITE.current + path, body)
    listed: Iterator[Listed] = bucket.list(SITE.current)
    objects = read_listing(SITE, listed).objects
    bucket.requests.clear()
    return objects


def fetch_plain(bucket: MemoryBucket, staging: Staging, objects: tuple[Object, ...]) -> dict[str, str]:
    directories = {parent for item in objects for parent in layout.parents(item.path)}
    staging.make_directories(sorted(directories))
    return fetch_objects(bucket, SITE.current, objects, staging, quiet)


def test_every_object_is_fetched_once_and_hashed(bucket: MemoryBucket, staging: Staging) -> None:
    digests = fetch_plain(bucket, staging, push(bucket))
    assert tree(staging) == FILES
    assert digests == {path: digest(body) for path, body in FILES.items()}
    assert sorted(bucket.requests) == [("open", SITE.current + path) for path in sorted(FILES)]


def replaced(bucket: MemoryBucket, key: str) -> None:
    bucket.place(key, b"<h1>HELLO</h1>" * 100)


def removed(bucket: MemoryBucket, key: str) -> None:
    del bucket.objects[key]


def grown(bucket: MemoryBucket, key: str) -> None:
    stored = bucket.objects[key]
    bucket.place(key, stored.body + b"more", etag=stored.etag)


def shrunk(bucket: MemoryBucket, key: str) -> None:
    bucket.truncate(key, 7)


@pytest.mark.parametrize("change", [replaced, removed, grown, shrunk])
def test_an_object_that_is_not_what_was_listed_starts_the_work_over(
    bucket: MemoryBucket, staging: Staging, change: Callable[[MemoryBucket, str], None]
) -> None:
    objects = push(bucket)
    change(bucket, f"{SITE.current}index.html")
    before = open_files()
    with pytest.raises(SourceChanged, match=r"index\.html") as error:
        fetch_plain(bucket, staging, objects)
    assert error.value.retryable
    assert open_files() == before
    assert not (staging.root / "index.html").exists() or (
        (staging.root / "index.html").stat().st_size <= len(FILES["index.html"])
    )


@pytest.mark.parametrize("operation", ["open", "read"])
def test_a_connection_that_breaks_is_no_change_of_the_source(
    bucket: MemoryBucket, staging: Staging, operation: str
) -> None:
    objects = push(bucket)
    bucket.fail_next(operation, StoreUnavailable("the connection broke"))
    with pytest.raises(StoreUnavailable):
        fetch_plain(bucket, staging, objects)


def test_after_a_failure_nothing_more_is_asked_for(bucket: MemoryBucket, staging: Staging) -> None:
    objects = push(bucket, {f"{number:04}": b"x" for number in range(1000)})
    never = threading.Event()

    def hang_after_the_first(_operation: str, _key: str) -> None:
        if bucket.count("open") > 1:
            never.wait(0.2)  # long enough for the rest of the work to be called off

    bucket.before = hang_after_the_first
    bucket.outage = StoreUnavailable("S3 is gone")
    with pytest.raises(StoreUnavailable):
        fetch_plain(bucket, staging, objects)
    assert bucket.count("open") <= 2 * OBJECTS_IN_FLIGHT
