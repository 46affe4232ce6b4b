from __future__ import annotations

import msgspec
import pytest

from s3sync_agent.deploy.releases import Change, diff, list_releases, load_manifest, read_pointer
from s3sync_agent.errors import (
    DigestMismatch,
    ManifestInvalid,
    PointerInvalid,
    ReleaseMissing,
    StoreUnavailable,
    TooLarge,
    UnsafePath,
)
from s3sync_agent.pointer import encode_pointer
from tests.fakes import MemoryBucket
from tests.releases import NOON, PAGES, SITE, place_pointer, place_release, pointer_after


@pytest.fixture
def bucket() -> MemoryBucket:
    return MemoryBucket(clock=lambda: NOON)


# ----------------------------------------------------------------------------- listing


def test_a_site_without_releases_lists_none(bucket: MemoryBucket) -> None:
    assert list_releases(bucket, SITE) == []


def test_releases_are_listed_newest_first_with_what_their_manifests_say(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1", at=NOON - 60)
    place_release(bucket, "v2", {"index.html": b"hello"}, at=NOON)
    newest, oldest = list_releases(bucket, SITE)
    assert (newest.version, newest.files, newest.size, newest.published_at) == ("v2", 1, 5, NOON)
    assert (oldest.version, oldest.files, oldest.size) == ("v1", 4, sum(map(len, PAGES.values())))
    assert (oldest.state, oldest.commit, oldest.ref) == ("whole", "1a2b3c4d5e6f", "refs/heads/main")


def test_a_release_exists_only_once_its_manifest_does(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    del bucket.objects[SITE.manifest("v1")]
    (found,) = list_releases(bucket, SITE)
    assert (found.version, found.state, found.files) == ("v1", "unfinished", len(PAGES) + 1)


def test_what_a_plain_pipeline_put_there_is_foreign(bucket: MemoryBucket) -> None:
    bucket.place(f"{SITE.releases}1763835300/index.html", b"hello", last_modified=NOON - 5)
    bucket.place(f"{SITE.releases}-no version/", b"")
    foreign = {release.version: release for release in list_releases(bucket, SITE)}
    assert {release.state for release in foreign.values()} == {"foreign"}
    assert foreign["1763835300"].published_at == NOON - 5
    assert (foreign["1763835300"].files, foreign["1763835300"].size) == (1, 5)
    assert foreign["-no version"].files == 0


def test_a_folder_that_was_emptied_is_no_release(
    bucket: MemoryBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_release(bucket, "v1")
    monkeypatch.setattr(bucket, "list_prefixes", lambda _: [SITE.release("v0"), SITE.release("v1")])
    assert [release.version for release in list_releases(bucket, SITE)] == ["v1"]


def test_a_damaged_manifest_is_listed_with_its_fault_and_hides_no_other_release(
    bucket: MemoryBucket,
) -> None:
    place_release(bucket, "v1")
    bucket.place(SITE.manifest("v2"), b"{")
    states = {release.version: (release.state, release.fault) for release in list_releases(bucket, SITE)}
    assert states["v1"] == ("whole", "")
    assert states["v2"][0] == "damaged"
    assert "manifest cannot be read" in states["v2"][1]


def test_a_listing_that_could_not_be_finished_is_no_listing(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    place_release(bucket, "v2")
    bucket.fail_next("get", StoreUnavailable("timed out"))
    with pytest.raises(StoreUnavailable):
        list_releases(bucket, SITE)


def test_other_sites_in_the_bucket_are_not_listed(bucket: MemoryBucket) -> None:
    bucket.place("site-2/releases/v1/.s3sync/manifest.json", b"{}")
    assert list_releases(bucket, SITE) == []


# --------------------------------------------------------------------------- manifests


def test_a_manifest_comes_with_the_identity_of_its_stored_bytes(bucket: MemoryBucket) -> None:
    placed = place_release(bucket, "v1")
    assert load_manifest(bucket, SITE, "v1") == placed
    assert load_manifest(bucket, SITE, "v1", placed.sha256) == placed


def test_a_manifest_that_is_missing_unreadable_or_other_than_announced_is_refused(
    bucket: MemoryBucket,
) -> None:
    place_release(bucket, "v1")
    bucket.place(SITE.manifest("v2"), b"garbage")
    with pytest.raises(ReleaseMissing, match="no release v3 in s3://bucket/site"):
        load_manifest(bucket, SITE, "v3")
    with pytest.raises(ManifestInvalid):
        load_manifest(bucket, SITE, "v2")
    with pytest.raises(DigestMismatch):
        load_manifest(bucket, SITE, "v1", "0" * 64)


def test_a_version_that_is_a_path_asks_s3_nothing(bucket: MemoryBucket) -> None:
    with pytest.raises(UnsafePath):
        load_manifest(bucket, SITE, "../v1")
    assert bucket.requests == []


# ------------------------------------------------------------------------- the pointer


def test_a_site_without_pointer_has_none(bucket: MemoryBucket) -> None:
    assert read_pointer(bucket, SITE) is None


def test_the_pointer_comes_with_its_etag(bucket: MemoryBucket) -> None:
    place_pointer(bucket, pointer_after("A"))
    found = read_pointer(bucket, SITE)
    assert found is not None
    assert found[0].pointer == pointer_after("A")
    assert found[1] == bucket.objects[SITE.pointer].etag


def test_a_pointer_of_another_site_is_refused(bucket: MemoryBucket) -> None:
    place_pointer(bucket, msgspec.structs.replace(pointer_after("A"), site="s3://bucket/staging"))
    with pytest.raises(PointerInvalid, match="s3://bucket/staging"):
        read_pointer(bucket, SITE)


@pytest.mark.parametrize(
    "garbage",
    [
        b"garbage",
        b'{"signed":{"type":"other"}}',
        b" " * 70_000,
        b" " * 2_000_000,
        encode_pointer(pointer_after("A")).replace(b'"version":"A"', b'"version":"../A"'),
    ],
    ids=["text", "another type", "too large", "far too large", "unsafe version"],
)
def test_whoever_meets_a_pointer_that_cannot_be_read_is_told_how_to_replace_it(
    bucket: MemoryBucket, garbage: bytes
) -> None:
    bucket.place(SITE.pointer, garbage)
    with pytest.raises((PointerInvalid, TooLarge)) as refused:
        read_pointer(bucket, SITE)
    assert "promote VERSION --now --force" in refused.value.hint


# -------------------------------------------------------------------------- comparing


def test_the_difference_of_two_releases_is_told_by_content(bucket: MemoryBucket) -> None:
    old = place_release(bucket, "v1", {"index.html": b"one", "gone": b"12", "same": b"s", "same-size": b"1"})
    new = place_release(bucket, "v2", {"index.html": b"three", "new": b"1", "same": b"s", "same-size": b"2"})
    found = diff(old.manifest, new.manifest)
    assert found.added == (Change("new", None, 1),)
    assert found.removed == (Change("gone", 2, None),)
    assert found.changed == (Change("index.html", 3, 5), Change("same-size", 1, 1))
    assert found.unchanged == 1


def test_a_release_does_not_differ_from_itself(bucket: MemoryBucket) -> None:
    manifest = place_release(bucket, "v1").manifest
    found = diff(manifest, manifest)
    assert (found.added, found.removed, found.changed) == ((), (), ())
