from __future__ import annotations

import pytest

from s3sync_agent.deploy.mirror import mirror
from s3sync_agent.deploy.promote import Promotion, promote_now
from s3sync_agent.errors import ReleaseRefused, StoreUnavailable
from tests.fakes import MemoryBucket
from tests.instances import promoter
from tests.releases import NOON, PAGES, SITE, place_pointer, place_release, pointer_after


@pytest.fixture
def bucket() -> MemoryBucket:
    return MemoryBucket(clock=lambda: NOON)


def promoted(bucket: MemoryBucket, version: str) -> Promotion:
    return promote_now(promoter(bucket), version, promotion_id=f"promotion-of-{version}", force=True)


def current(bucket: MemoryBucket) -> dict[str, bytes]:
    """What is below `current/`, without what belongs to this project."""
    return {
        key.removeprefix(SITE.current): stored.body
        for key, stored in bucket.objects.items()
        if key.startswith(SITE.current) and not key.startswith(SITE.current + ".s3sync/")
    }


def test_current_shows_the_promoted_release(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    promotion = promoted(bucket, "v1")
    done = mirror(bucket, SITE, promotion.pointer.active, promotion.manifest)
    assert (done.outcome, done.copied, done.deleted) == ("done", len(PAGES), 0)
    assert current(bucket) == PAGES


def test_only_what_differs_is_copied_and_what_is_gone_is_deleted(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1", {"index.html": b"one", "same": b"s", "old": b"o"})
    place_release(bucket, "v2", {"index.html": b"two", "same": b"s", "new": b"n"})
    first = promoted(bucket, "v1")
    mirror(bucket, SITE, first.pointer.active, first.manifest)
    second = promoted(bucket, "v2")
    done = mirror(bucket, SITE, second.pointer.active, second.manifest)
    assert (done.copied, done.deleted) == (2, 1)
    assert current(bucket) == {"index.html": b"two", "same": b"s", "new": b"n"}


def test_objects_whose_etags_do_not_compare_are_copied(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1", {"index.html": b"one"})
    bucket.place(SITE.current + "index.html", b"one", etag="9b2cf535f27731c974343645a3985328-2")
    promotion = promoted(bucket, "v1")
    assert mirror(bucket, SITE, promotion.pointer.active, promotion.manifest).copied == 1


def test_nothing_is_deleted_before_everything_is_copied(bucket: MemoryBucket) -> None:
    bucket.place(SITE.current + "old.html", b"old")
    place_release(bucket, "v1")
    promotion = promoted(bucket, "v1")
    mirror(bucket, SITE, promotion.pointer.active, promotion.manifest)
    operations = [operation for operation, _ in bucket.requests if operation in ("copy", "delete")]
    assert operations == ["copy"] * len(PAGES) + ["delete"]


def test_a_copy_that_fails_leaves_everything_old_in_place(bucket: MemoryBucket) -> None:
    bucket.place(SITE.current + "old.html", b"old")
    place_release(bucket, "v1")
    promotion = promoted(bucket, "v1")
    bucket.fail_next("copy", StoreUnavailable("timed out"))
    with pytest.raises(StoreUnavailable):
        mirror(bucket, SITE, promotion.pointer.active, promotion.manifest)
    assert current(bucket)["old.html"] == b"old"
    again = mirror(bucket, SITE, promotion.pointer.active, promotion.manifest)
    assert again.outcome == "done"
    assert current(bucket) == PAGES


def test_what_belongs_to_this_project_is_never_touched(bucket: MemoryBucket) -> None:
    bucket.place(SITE.complete_marker, b"")
    place_release(bucket, "v1")
    promotion = promoted(bucket, "v1")
    before = bucket.objects[SITE.pointer]
    mirror(bucket, SITE, promotion.pointer.active, promotion.manifest)
    assert bucket.objects[SITE.pointer] == before
    assert SITE.complete_marker in bucket.objects
    assert not any("/.s3sync/" in key for operation, key in bucket.requests if operation == "copy")


def test_folder_markers_are_left_alone(bucket: MemoryBucket) -> None:
    bucket.place(SITE.current + "images/", b"")
    place_release(bucket, "v1")
    promotion = promoted(bucket, "v1")
    mirror(bucket, SITE, promotion.pointer.active, promotion.manifest)
    assert SITE.current + "images/" in bucket.objects


def test_a_release_without_browsable_files_leaves_the_mirror_as_it_is(bucket: MemoryBucket) -> None:
    bucket.place(SITE.current + "old.html", b"old")
    place_release(bucket, "v1", browsable=False)
    promotion = promoted(bucket, "v1")
    assert mirror(bucket, SITE, promotion.pointer.active, promotion.manifest).outcome == "left"
    assert current(bucket) == {"old.html": b"old"}


def test_a_release_that_lost_some_browsable_files_is_not_mirrored(bucket: MemoryBucket) -> None:
    bucket.place(SITE.current + "logo.png", b"old")
    place_release(bucket, "v1")
    del bucket.objects[SITE.release("v1") + "logo.png"]
    promotion = promoted(bucket, "v1")
    with pytest.raises(ReleaseRefused, match=r"3 browsable files of 4; missing is 'logo\.png'"):
        mirror(bucket, SITE, promotion.pointer.active, promotion.manifest)
    assert current(bucket) == {"logo.png": b"old"}


@pytest.mark.parametrize("moment", ["copy", "delete"])
def test_who_was_overtaken_stops_and_deletes_nothing_after(bucket: MemoryBucket, moment: str) -> None:
    bucket.place(SITE.current + "old.html", b"old")
    place_release(bucket, "v1")
    place_release(bucket, "v2")
    promotion = promoted(bucket, "v1")

    def overtake(operation: str, key: str) -> None:
        if operation == moment:
            bucket.before = None
            promoted(bucket, "v2")

    bucket.before = overtake
    done = mirror(bucket, SITE, promotion.pointer.active, promotion.manifest)
    assert done.outcome == "superseded"
    assert done.winner.startswith("v2 by alice at ")
    assert ("old.html" in current(bucket)) == (moment == "copy")


def test_who_was_overtaken_before_the_mirror_copies_nothing(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    promotion = promoted(bucket, "v1")
    place_pointer(bucket, pointer_after("v2"))
    done = mirror(bucket, SITE, promotion.pointer.active, promotion.manifest)
    assert (done.outcome, done.copied) == ("superseded", 0)
    assert current(bucket) == {}


def test_a_pointer_deleted_meanwhile_stops_the_mirror(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    promotion = promoted(bucket, "v1")
    del bucket.objects[SITE.pointer]
    assert mirror(bucket, SITE, promotion.pointer.active, promotion.manifest).outcome == "superseded"
