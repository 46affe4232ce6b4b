from __future__ import annotations

import random
from dataclasses import replace

import msgspec
import pytest

from s3sync_agent.deploy import verify
from s3sync_agent.deploy.verify import verify_release
from s3sync_agent.errors import ReleaseMissing, StoreUnavailable
from s3sync_agent.release import Pack
from tests.fakes import MemoryBucket
from tests.releases import PAGES, SITE, place_manifest, place_release


@pytest.fixture
def bucket() -> MemoryBucket:
    return MemoryBucket()


def pack_of(bucket: MemoryBucket, version: str = "v1") -> str:
    (key,) = (
        key for key in bucket.objects if key.startswith(SITE.release(version)) and key.endswith(".pack")
    )
    return key


def test_a_whole_release_has_no_fault(bucket: MemoryBucket) -> None:
    stored = place_release(bucket, "v1", PAGES | {"empty.txt": b"", "copy.html": PAGES["index.html"]})
    found = verify_release(bucket, SITE, "v1")
    assert stored.manifest.pack is not None
    assert found.faults == ()
    assert (found.files, found.browsable, found.pack_size) == (6, 6, stored.manifest.pack.size)


def test_a_release_published_without_browsable_files_is_whole(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1", browsable=False)
    found = verify_release(bucket, SITE, "v1")
    assert (found.faults, found.browsable) == ((), 0)


def test_equal_files_may_share_one_frame(bucket: MemoryBucket) -> None:
    manifest = place_release(bucket, "v1", {"a": b"same" * 50, "b": b"same" * 50}, browsable=False).manifest
    first, second = manifest.files
    shared = msgspec.structs.replace(second, offset=first.offset)
    place_manifest(bucket, msgspec.structs.replace(manifest, files=(first, shared)))
    assert verify_release(bucket, SITE, "v1").faults == ()


@pytest.mark.parametrize("piece", [1, 7, 64, 1000])
def test_frames_are_followed_across_the_pieces_in_which_the_pack_is_read(
    bucket: MemoryBucket, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(verify, "RANGE_BYTES", piece)
    noise = random.Random(piece)
    files = {f"{n}.html": noise.randbytes(noise.randrange(200)) for n in range(20)} | {"empty": b""}
    place_release(bucket, "v1", files)
    assert verify_release(bucket, SITE, "v1").faults == ()
    bucket.corrupt(pack_of(bucket))
    faults = verify_release(bucket, SITE, "v1").faults
    assert len(faults) == 2
    assert faults[0] == "the pack does not have the SHA-256 the manifest announces"
    assert faults[1].startswith("pack: content of ")


def test_every_fault_is_listed_and_not_only_the_first(bucket: MemoryBucket) -> None:
    manifest = place_release(bucket, "v1").manifest
    frames = {entry.path: entry for entry in manifest.files}
    for path in ("index.html", "logo.png"):
        bucket.corrupt(pack_of(bucket), at=frames[path].offset + frames[path].length // 2)
    root = SITE.release("v1")
    del bucket.objects[root + "about/index.html"]
    bucket.truncate(root + "logo.png", 2)
    bucket.place(root + "index.html", b"x" * frames["index.html"].size)
    faults = verify_release(bucket, SITE, "v1").faults
    assert sorted(fault for fault in faults if fault.startswith("file ")) == [
        "file 'about/index.html' is missing",
        "file 'index.html' does not have the SHA-256 the manifest announces",
        f"file 'logo.png' has 2 bytes, the manifest says {frames['logo.png'].size}",
    ]
    assert sum("content of 'index.html'" in fault for fault in faults) == 1
    assert sum("content of 'logo.png'" in fault for fault in faults) == 1
    assert faults[0] == "the pack does not have the SHA-256 the manifest announces"
    assert len(faults) == 6


def test_an_object_without_checksum_is_read(bucket: MemoryBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    place_release(bucket, "v1")
    head = bucket.head
    monkeypatch.setattr(
        bucket, "head", lambda key: (info := head(key)) and replace(info, sha256="", announced_sha256="")
    )
    assert verify_release(bucket, SITE, "v1").faults == ()
    assert bucket.count("open") == len(PAGES)
    bucket.corrupt(SITE.release("v1") + "index.html")
    assert verify_release(bucket, SITE, "v1").faults == (
        "file 'index.html' does not have the SHA-256 the manifest announces",
    )


def test_a_pack_that_is_missing_short_or_deleted_meanwhile_is_a_fault(bucket: MemoryBucket) -> None:
    place_release(bucket, "v1", browsable=False)
    key = pack_of(bucket)
    size = len(bucket.objects[key].body)

    def delete(operation: str, _: str) -> None:
        if operation == "get_range":
            bucket.objects.pop(key)

    bucket.before = delete
    assert "the pack changed while it was read" in verify_release(bucket, SITE, "v1").faults[0]
    bucket.before = None
    assert verify_release(bucket, SITE, "v1").faults == ("the pack is missing",)
    bucket.place(key, b"123")
    assert verify_release(bucket, SITE, "v1").faults == (f"the pack has 3 bytes, the manifest says {size}",)


def test_a_manifest_that_cannot_be_used_is_the_one_fault(bucket: MemoryBucket) -> None:
    bucket.place(SITE.manifest("v1"), b"{")
    (fault,) = verify_release(bucket, SITE, "v1").faults
    assert "manifest cannot be read" in fault


def test_a_manifest_without_pack_is_a_fault(bucket: MemoryBucket) -> None:
    manifest = place_release(bucket, "v1", {"empty": b""}, browsable=False).manifest
    assert manifest.pack == Pack(0, manifest.files[0].sha256)
    place_manifest(bucket, msgspec.structs.replace(manifest, pack=None))
    assert verify_release(bucket, SITE, "v1").faults == ("the manifest names no pack",)


def test_a_version_that_does_not_exist_has_no_faults_but_is_missing(bucket: MemoryBucket) -> None:
    with pytest.raises(ReleaseMissing):
        verify_release(bucket, SITE, "v1")


@pytest.mark.parametrize("operation", ["get", "head", "get_range", "list"])
def test_what_could_not_be_asked_is_no_fault_of_the_release(bucket: MemoryBucket, operation: str) -> None:
    place_release(bucket, "v1")
    bucket.fail_next(operation, StoreUnavailable("timed out"))
    with pytest.raises(StoreUnavailable):
        verify_release(bucket, SITE, "v1")
