from __future__ import annotations

import pytest

from s3sync_agent.deploy.prune import prune
from s3sync_agent.deploy.releases import list_releases
from s3sync_agent.errors import PointerInvalid, ReleaseRefused, StoreUnavailable
from tests.fakes import MemoryBucket
from tests.releases import NOON, PAGES, SITE, place_pointer, place_release, pointer_after


@pytest.fixture
def bucket() -> MemoryBucket:
    """Five releases, published a minute apart; v5 is active, v4 its baseline."""
    bucket = MemoryBucket(clock=lambda: NOON)
    for count in range(1, 6):
        place_release(bucket, f"v{count}", at=NOON + 60 * count)
    place_pointer(bucket, pointer_after("v1", "v2", "v3", "v4", "v5"))
    return bucket


def versions(bucket: MemoryBucket) -> list[str]:
    return sorted(release.version for release in list_releases(bucket, SITE))


def pruned(bucket: MemoryBucket, keep: int, *, dry_run: bool = False) -> list[str]:
    return [release.version for release in prune(bucket, SITE, keep=keep, dry_run=dry_run)]


def test_the_oldest_releases_go_and_the_newest_stay(bucket: MemoryBucket) -> None:
    assert pruned(bucket, 3) == ["v1", "v2"]
    assert versions(bucket) == ["v3", "v4", "v5"]
    assert not any(key.startswith((SITE.release("v1"), SITE.release("v2"))) for key in bucket.objects)


def test_what_is_deleted_is_told_with_its_size(bucket: MemoryBucket) -> None:
    before = {key: len(stored.body) for key, stored in bucket.objects.items() if "/v1/" in key}
    (gone,) = prune(bucket, SITE, keep=4)
    assert (gone.version, gone.objects, gone.size) == ("v1", len(before), sum(before.values()))
    assert gone.objects == len(PAGES) + 2


def test_a_dry_run_says_the_same_and_deletes_nothing(bucket: MemoryBucket) -> None:
    before = dict(bucket.objects)
    assert pruned(bucket, 3, dry_run=True) == ["v1", "v2"]
    assert bucket.objects == before
    assert pruned(bucket, 3) == ["v1", "v2"]


def test_the_manifest_goes_first_so_that_no_release_is_there_in_part(bucket: MemoryBucket) -> None:
    pruned(bucket, 4)
    deletions = [key for operation, key in bucket.requests if operation == "delete"]
    assert deletions[0] == SITE.manifest("v1")
    assert len(deletions) == 2


def test_a_prune_that_was_interrupted_leaves_an_unfinished_release_and_not_a_broken_one(
    bucket: MemoryBucket,
) -> None:
    def cut(operation: str, key: str) -> None:
        if operation == "delete" and key != SITE.manifest("v1"):
            raise StoreUnavailable("timed out")

    bucket.before = cut
    with pytest.raises(StoreUnavailable):
        pruned(bucket, 4)
    bucket.before = None
    states = {release.version: release.state for release in list_releases(bucket, SITE)}
    assert states["v1"] == "unfinished"


def test_what_somebody_promotes_meanwhile_stays(bucket: MemoryBucket) -> None:
    steps = prune(bucket, SITE, keep=2)
    assert next(steps).version == "v1"
    place_pointer(bucket, pointer_after("v3", "v4", "v5", "v2"))
    assert [step.version for step in steps] == ["v3"]
    assert versions(bucket) == ["v2", "v4", "v5"]
    assert ("delete", SITE.manifest("v2")) not in bucket.requests


def test_a_release_promoted_while_its_manifest_goes_gets_it_back(bucket: MemoryBucket) -> None:
    before = dict(bucket.objects)

    def promote(operation: str, key: str) -> None:
        if operation == "delete" and key == SITE.manifest("v1"):
            place_pointer(bucket, pointer_after("v2", "v3", "v4", "v5", "v1"))

    bucket.before = promote
    assert pruned(bucket, 4) == []
    assert bucket.objects[SITE.manifest("v1")].body == before[SITE.manifest("v1")].body
    assert bucket.objects.keys() == before.keys()


def test_a_pointer_that_cannot_be_asked_for_once_the_manifest_is_gone_stops_everything(
    bucket: MemoryBucket,
) -> None:
    def cut(operation: str, key: str) -> None:
        if operation == "delete":
            bucket.fail_next("get", StoreUnavailable("timed out"))

    bucket.before = cut
    with pytest.raises(StoreUnavailable):
        pruned(bucket, 3)
    assert bucket.count("delete") == 1
    assert any(key.startswith(SITE.release("v1")) for key in bucket.objects)


def test_nothing_more_is_deleted_when_the_pointer_is_lost_or_damaged_meanwhile(bucket: MemoryBucket) -> None:
    steps = prune(bucket, SITE, keep=1)
    next(steps)
    bucket.place(SITE.pointer, b"garbage")
    with pytest.raises(PointerInvalid):
        next(steps)
    assert versions(bucket) == ["v2", "v3", "v4", "v5"]


def test_without_a_pointer_nothing_is_deleted(bucket: MemoryBucket) -> None:
    del bucket.objects[SITE.pointer]
    with pytest.raises(ReleaseRefused, match="there is no pointer to say which releases are needed"):
        pruned(bucket, 1)
    assert bucket.count("delete") == 0


def test_folders_without_a_manifest_stay(bucket: MemoryBucket) -> None:
    bucket.place(f"{SITE.releases}old-pipeline/index.html", b"x", last_modified=NOON - 10**6)
    bucket.place(SITE.pack("v0", "0" * 64), b"x", last_modified=NOON - 10**6)
    assert pruned(bucket, 4) == ["v1"]
    assert versions(bucket)[:2] == ["old-pipeline", "v0"]


def test_a_damaged_release_can_be_pruned(bucket: MemoryBucket) -> None:
    bucket.corrupt(SITE.manifest("v1"), at=0)
    assert pruned(bucket, 4) == ["v1"]


def test_a_release_whose_version_begins_like_another_does_not_take_it_along(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1-hotfix", at=NOON + 1000)
    pruned(bucket, 4)
    assert "v1-hotfix" in versions(bucket)


@pytest.mark.parametrize("fails", ["reading the pointer", "the answer to the deletion"])
def test_the_manifest_is_back_when_nobody_can_tell_whether_it_is_needed(
    bucket: MemoryBucket, fails: str
) -> None:
    manifest = bucket.objects[SITE.manifest("v1")].body

    def promote_v1_just_then(operation: str, key: str) -> None:
        if operation == "delete":
            bucket.before = None
            place_pointer(bucket, pointer_after("v4", "v5", "v1"))
            if fails == "reading the pointer":
                bucket.fail_next("get", StoreUnavailable("timed out"))
            else:
                bucket.lose_answer("delete", StoreUnavailable("timed out"))

    bucket.before = promote_v1_just_then
    with pytest.raises(StoreUnavailable):
        pruned(bucket, 4)
    assert bucket.objects[SITE.manifest("v1")].body == manifest


def test_two_prunes_at_once_share_the_work(bucket: MemoryBucket) -> None:
    def another_prune(operation: str, key: str) -> None:
        if (operation, key) == ("list", SITE.release("v1")):
            bucket.before = None
            assert pruned(bucket, 3) == ["v1", "v2"]

    bucket.before = another_prune
    assert pruned(bucket, 3) == []
    assert versions(bucket) == ["v3", "v4", "v5"]
