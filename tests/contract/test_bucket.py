"""What `Bucket` promises, asked of the fake and of two real servers alike."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest

from s3sync_agent.bucket import NOT_MODIFIED, Bucket, Fetched, s3_upload
from s3sync_agent.bucket import s3 as s3_module
from s3sync_agent.bucket.s3 import S3Bucket
from s3sync_agent.errors import (
    DigestMismatch,
    ObjectMissing,
    PreconditionFailed,
    StoreDenied,
    StoreMisconfigured,
    StoreUnavailable,
    TooLarge,
)
from tests.fakes import MemoryBucket
from tests.servers import READABLE_BUCKET, READER, S3Server, free_ports

MIB = 1024 * 1024


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def put(bucket: Bucket, key: str, body: bytes, *, if_match: str = "", create_only: bool = False) -> str:
    return bucket.put(
        key, body, size=len(body), sha256=digest(body), if_match=if_match, create_only=create_only
    )


def md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def enter(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)


def _server(request: pytest.FixtureRequest, name: str) -> S3Server:
    found: S3Server = request.getfixturevalue({"moto": "moto_server"}.get(name, name))
    return found


@pytest.fixture(params=["moto", "seaweedfs"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    found = _server(request, request.param)
    enter(found, monkeypatch)
    return found


@pytest.fixture(params=["memory", "moto", "seaweedfs"])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    if request.param == "memory":
        return MemoryBucket()
    server = _server(request, request.param)
    enter(server, monkeypatch)
    return S3Bucket(server.new_bucket())


@pytest.fixture
def cannot(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`cannot("moto", "verify checksums")`: this one case is not for that server."""

    def skip(name: str, what: str) -> None:
        if f"[{name}]" in request.node.name:
            pytest.skip(f"{name} does not {what}")

    return skip


# ------------------------------------------------------------------------------- reading


def test_what_was_put_is_what_is_got(bucket: Bucket) -> None:
    etag = put(bucket, "a/pointer.json", b'{"signed":{}}')
    assert bucket.get("a/pointer.json", limit=100) == Fetched(b'{"signed":{}}', etag)


def test_the_etag_of_a_small_object_is_its_md5_without_quotes(bucket: Bucket) -> None:
    assert put(bucket, "key", b"body") == md5(b"body")


def test_an_empty_object_is_an_object(bucket: Bucket) -> None:
    put(bucket, "empty", b"")
    assert bucket.get("empty", limit=0).body == b""
    info = bucket.head("empty")
    assert info is not None
    assert info.size == 0


def test_getting_a_missing_key_is_an_error_of_its_own(bucket: Bucket) -> None:
    with pytest.raises(ObjectMissing, match="missing"):
        bucket.get("missing", limit=10)
    with pytest.raises(ObjectMissing):
        bucket.get_if_changed("missing", "", limit=10)
    with pytest.raises(ObjectMissing):
        bucket.get_if_changed("missing", md5(b""), limit=10)
    with pytest.raises(ObjectMissing):
        bucket.get_range("missing", 0, 1)
    with pytest.raises(ObjectMissing), bucket.open("missing", if_match=md5(b"")):
        pass


def test_an_object_above_the_limit_is_refused_and_one_at_the_limit_is_not(bucket: Bucket) -> None:
    put(bucket, "key", b"12345")
    assert bucket.get("key", limit=5).body == b"12345"
    with pytest.raises(TooLarge, match="5 bytes"):
        bucket.get("key", limit=4)
    with pytest.raises(TooLarge, match="5 bytes"):
        bucket.get_if_changed("key", "", limit=4)


def test_an_unchanged_object_is_not_sent_again(bucket: Bucket) -> None:
    etag = put(bucket, "pointer", b"one")
    assert bucket.get_if_changed("pointer", etag, limit=10) is NOT_MODIFIED


def test_a_changed_object_is_sent_with_its_new_etag(bucket: Bucket) -> None:
    old = put(bucket, "pointer", b"one")
    new = put(bucket, "pointer", b"two")
    assert bucket.get_if_changed("pointer", old, limit=10) == Fetched(b"two", new)


def test_without_an_etag_the_question_is_unconditional(bucket: Bucket) -> None:
    etag = put(bucket, "pointer", b"one")
    assert bucket.get_if_changed("pointer", "", limit=10) == Fetched(b"one", etag)


def test_a_range_is_exactly_the_bytes_asked_for(bucket: Bucket) -> None:
    put(bucket, "pack", bytes(range(256)))
    assert bucket.get_range("pack", 10, 13) == b"\x0a\x0b\x0c"
    assert bucket.get_range("pack", 0, 256) == bytes(range(256))
    assert bucket.get_range("pack", 255, 256) == b"\xff"
    assert bucket.get_range("pack", 7, 7) == b""


@pytest.mark.parametrize(("start", "end"), [(250, 257), (256, 257), (1000, 2000)])
def test_a_range_that_the_object_does_not_have_is_damage_not_an_outage(
    bucket: Bucket, start: int, end: int
) -> None:
    put(bucket, "pack", bytes(range(256)))
    with pytest.raises(DigestMismatch, match=f"ends before byte {end}"):
        bucket.get_range("pack", start, end)


def test_an_opened_object_is_read_in_pieces_to_its_end(bucket: Bucket) -> None:
    content = bytes(range(256)) * 4096
    etag = put(bucket, "large", content)
    with bucket.open("large", if_match=etag) as body:
        pieces = list(iter(lambda: body.read(100_000), b""))
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= 100_000


def test_an_opened_object_may_be_left_before_its_end(bucket: Bucket) -> None:
    etag = put(bucket, "large", bytes(MIB))
    with bucket.open("large", if_match=etag) as body:
        assert body.read(10) == bytes(10)
    assert bucket.get_range("large", 0, 1) == b"\0"


def test_an_object_that_is_another_by_now_is_not_opened(bucket: Bucket) -> None:
    old = put(bucket, "page", b"one")
    put(bucket, "page", b"two")
    with pytest.raises(PreconditionFailed), bucket.open("page", if_match=old):
        pass


def test_head_tells_size_etag_time_and_checksum(bucket: Bucket, cannot: Callable[[str, str], None]) -> None:
    before = time.time()
    etag = put(bucket, "key", b"body")
    info = bucket.head("key")
    assert info is not None
    assert (info.size, info.etag, info.encrypted_by_kms) == (4, etag, False)
    assert before - 2 <= info.last_modified <= time.time() + 2
    assert info.announced_sha256 == digest(b"body")
    assert info.sha256 == digest(b"body")


def test_head_of_a_missing_key_is_none(bucket: Bucket) -> None:
    assert bucket.head("missing") is None


# ------------------------------------------------------------------------------- listing

ODD_NAMES = ["a b", "a%20b", "a%2Fb", "a&<b>", "a+b", "a~b", "é", "e\u0301", "日本", "🙂", "'\"", "a;b=c?d#e"]


def test_names_of_all_kinds_come_back_as_they_were(bucket: Bucket) -> None:
    for name in ODD_NAMES:
        put(bucket, f"odd/{name}", name.encode())
    assert sorted(entry.key for entry in bucket.list("odd/")) == sorted(f"odd/{name}" for name in ODD_NAMES)
    for name in ODD_NAMES:
        assert bucket.get(f"odd/{name}", limit=100).body == name.encode()


def test_names_of_all_kinds_can_be_copied_and_deleted(bucket: Bucket) -> None:
    for name in ODD_NAMES:
        put(bucket, f"odd/{name}", name.encode())
        bucket.copy(f"odd/{name}", f"copy/{name}")
        assert bucket.get(f"copy/{name}", limit=100).body == name.encode()
    bucket.delete(f"odd/{name}" for name in ODD_NAMES)
    assert list(bucket.list("odd/")) == []


def test_a_listing_tells_size_etag_and_time(bucket: Bucket) -> None:
    before = time.time()
    etag = put(bucket, "site/index.html", b"hello")
    (entry,) = bucket.list("site/")
    assert (entry.key, entry.size, entry.etag) == ("site/index.html", 5, etag)
    assert before - 2 <= entry.last_modified <= time.time() + 2


def test_a_listing_is_in_the_order_of_utf8_bytes(bucket: Bucket, cannot: Callable[[str, str], None]) -> None:
    cannot("seaweedfs", "sort by key: it lists folder by folder, `a/b` before `a.b`")
    names = ["a-b", "a.b", "a/b", "a/c", "a0", "Z", "z", "é", "日本", "\ufb01", "🙂"]
    for name in names:
        put(bucket, name, b"")
    assert [entry.key for entry in bucket.list("")] == sorted(names, key=str.encode)


def test_a_listing_holds_only_what_is_below_its_prefix(bucket: Bucket) -> None:
    for key in ("site/a", "site/b/c", "site2/a", "other"):
        put(bucket, key, b"")
    assert [entry.key for entry in bucket.list("site/")] == ["site/a", "site/b/c"]
    assert list(bucket.list("nothing/")) == []


def test_a_listing_goes_on_beyond_a_page_of_1000(bucket: Bucket) -> None:
    keys = [f"many/{number:04d}" for number in range(1003)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: put(bucket, key, b""), keys))
    assert [entry.key for entry in bucket.list("many/")] == keys
    bucket.delete(keys)
    assert list(bucket.list("many/")) == []


def test_prefixes_are_the_folders_directly_below(bucket: Bucket) -> None:
    for key in ("releases/v2/a", "releases/v1/b/c", "releases/v 3/.s3sync/m", "releases/file", "else/x"):
        put(bucket, key, b"")
    assert list(bucket.list_prefixes("releases/")) == ["releases/v 3/", "releases/v1/", "releases/v2/"]
    assert list(bucket.list_prefixes("nothing/")) == []


# ------------------------------------------------------------------------------- writing


def test_a_free_key_is_created_and_a_taken_one_is_not(bucket: Bucket) -> None:
    put(bucket, "key", b"first", create_only=True)
    with pytest.raises(PreconditionFailed):
        put(bucket, "key", b"second", create_only=True)
    assert bucket.get("key", limit=10).body == b"first"


def test_of_eight_that_create_one_key_at_once_one_wins(bucket: Bucket) -> None:
    start = threading.Barrier(8, timeout=10)

    def create(number: int) -> bool:
        start.wait()
        try:
            put(bucket, "contested", b"%d" % number, create_only=True)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    assert won.count(True) == 1
    assert bucket.get("contested", limit=10).body == b"%d" % won.index(True)


def test_of_eight_that_replace_one_object_at_once_one_wins(bucket: Bucket) -> None:
    etag = put(bucket, "contested", b"old")
    start = threading.Barrier(8, timeout=10)

    def replace(number: int) -> bool:
        start.wait()
        try:
            put(bucket, "contested", b"%d" % number, if_match=etag)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(replace, range(8)))
    assert won.count(True) == 1
    assert bucket.get("contested", limit=10).body == b"%d" % won.index(True)


def test_an_object_is_replaced_only_as_long_as_it_is_the_one_known(bucket: Bucket) -> None:
    first = put(bucket, "pointer", b"first")
    second = put(bucket, "pointer", b"second", if_match=first)
    with pytest.raises(PreconditionFailed):
        put(bucket, "pointer", b"third", if_match=first)
    assert bucket.get("pointer", limit=10) == Fetched(b"second", second)


def test_replacing_an_object_that_is_gone_does_not_create_it(bucket: Bucket) -> None:
    with pytest.raises(PreconditionFailed):
        put(bucket, "pointer", b"new", if_match=md5(b"old"))
    assert bucket.head("pointer") is None


def test_bytes_with_another_sha256_are_refused_and_not_stored(
    bucket: Bucket, cannot: Callable[[str, str], None]
) -> None:
    cannot("moto", "verify checksums")
    with pytest.raises(DigestMismatch):
        bucket.put("key", b"body", size=4, sha256=digest(b"other"))
    assert bucket.head("key") is None


def test_a_body_of_another_length_is_refused_and_not_stored(bucket: Bucket) -> None:
    for size in (3, 5):
        with pytest.raises(DigestMismatch):
            bucket.put("key", b"body", size=size, sha256=digest(b"body"))
        with pytest.raises(DigestMismatch):
            bucket.put("key", BytesIO(b"body"), size=size, sha256=digest(b"body"))
    assert bucket.head("key") is None


def test_a_file_goes_up_from_its_current_position(bucket: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"skipped" + bytes(MIB))
    with path.open("rb") as file:
        file.seek(7)
        bucket.put("file", file, size=MIB, sha256=digest(bytes(MIB)))
    assert bucket.get("file", limit=MIB).body == bytes(MIB)


def test_a_copy_has_the_same_bytes_and_etag(bucket: Bucket) -> None:
    etag = put(bucket, "source", b"body")
    put(bucket, "target", b"former")
    bucket.copy("source", "target")
    assert bucket.get("target", limit=10) == Fetched(b"body", etag)


def test_copying_a_missing_object_is_an_error(bucket: Bucket) -> None:
    with pytest.raises(ObjectMissing):
        bucket.copy("missing", "target")
    assert bucket.head("target") is None


def test_deleting_removes_the_keys_named_and_no_other(bucket: Bucket) -> None:
    for key in ("a", "b", "c"):
        put(bucket, key, b"")
    bucket.delete(["a", "c"])
    assert [entry.key for entry in bucket.list("")] == ["b"]


def test_deleting_a_missing_key_is_no_error(bucket: Bucket) -> None:
    bucket.delete(["missing", "missing too"])
    bucket.delete([])


def test_the_time_of_the_store_is_known_after_its_first_answer(bucket: Bucket) -> None:
    assert bucket.server_time() is None
    bucket.head("missing")
    told = bucket.server_time()
    assert told is not None
    assert abs(told - time.time()) <= 2


def test_an_error_tells_the_time_as_well(bucket: Bucket) -> None:
    with pytest.raises(ObjectMissing):
        bucket.get("missing", limit=1)
    assert bucket.server_time() is not None or isinstance(bucket, MemoryBucket)


# ----------------------------------------------------------- what only a real server can show


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Content that goes up in three parts, without 64 MiB of it."""
    monkeypatch.setattr(s3_module, "LARGEST_SINGLE", 5 * MIB)
    monkeypatch.setattr(s3_upload, "_PART", 5 * MIB)
    return bytes(5 * MIB) + b"\1" * (5 * MIB) + b"the end"


def test_a_large_object_goes_up_in_parts_and_comes_back_whole(server: S3Server, small_parts: bytes) -> None:
    bucket = S3Bucket(server.new_bucket())
    etag = put(bucket, "pack", small_parts, create_only=True)
    assert etag.endswith("-3")
    with bucket.open("pack", if_match=etag) as body:
        assert b"".join(iter(lambda: body.read(MIB), b"")) == small_parts
    assert bucket.get("pack", limit=len(small_parts)).body == small_parts
    assert bucket.get_range("pack", 5 * MIB - 1, 5 * MIB + 1) == b"\0\1"


def test_a_large_object_says_what_was_announced_but_s3_vouches_for_nothing(
    server: S3Server, small_parts: bytes
) -> None:
    bucket = S3Bucket(server.new_bucket())
    put(bucket, "pack", small_parts)
    info = bucket.head("pack")
    assert info is not None
    assert (info.size, info.sha256, info.announced_sha256) == (len(small_parts), "", digest(small_parts))


def test_a_large_object_is_not_created_over_another(server: S3Server, small_parts: bytes) -> None:
    bucket = S3Bucket(server.new_bucket())
    put(bucket, "pack", b"first")
    with pytest.raises(PreconditionFailed):
        put(bucket, "pack", small_parts, create_only=True)
    assert bucket.get("pack", limit=10).body == b"first"


def test_a_large_object_replaces_only_the_one_known(
    server: S3Server, small_parts: bytes, cannot: Callable[[str, str], None]
) -> None:
    cannot("moto", "honour If-Match when an upload is completed")
    bucket = S3Bucket(server.new_bucket())
    etag = put(bucket, "pack", b"first")
    put(bucket, "pack", b"second")
    with pytest.raises(PreconditionFailed):
        put(bucket, "pack", small_parts, if_match=etag)
    assert bucket.get("pack", limit=10).body == b"second"


def test_a_large_object_with_another_sha256_is_never_put_together(
    server: S3Server, small_parts: bytes
) -> None:
    name = server.new_bucket()
    bucket = S3Bucket(name)
    with pytest.raises(DigestMismatch):
        bucket.put("pack", small_parts, size=len(small_parts), sha256=digest(b"other"))
    assert bucket.head("pack") is None
    assert server.admin.list_multipart_uploads(Bucket=name).get("Uploads", []) == []


def test_a_bucket_that_does_not_exist_is_a_wrong_setting_never_an_empty_one(server: S3Server) -> None:
    bucket = S3Bucket("no-such-bucket")
    questions: list[Callable[[], object]] = [
        lambda: bucket.get("key", limit=1),
        lambda: bucket.get_if_changed("key", "", limit=1),
        lambda: bucket.get_if_changed("key", md5(b""), limit=1),
        lambda: bucket.get_range("key", 0, 1),
        lambda: bucket.head("key"),
        lambda: list(bucket.list("")),
        lambda: bucket.list_prefixes(""),
        lambda: put(bucket, "key", b"body"),
        lambda: put(bucket, "key", b"body", create_only=True),
    ]
    for ask in questions:
        with pytest.raises(StoreMisconfigured, match="no such bucket"):
            ask()


def test_a_server_that_is_not_there_is_an_outage(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port} .Connection refused"):
        S3Bucket("any").get("key", limit=1)


@pytest.fixture
def reader(seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """moto lets everybody do everything; seaweedfs knows who may read what."""
    for name, value in seaweedfs.environment(READER).items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("reader")
def test_who_may_not_read_is_denied_whatever_the_question(seaweedfs: S3Server) -> None:
    bucket = S3Bucket(seaweedfs.new_bucket())
    questions: list[Callable[[], object]] = [
        lambda: bucket.get("key", limit=1),
        lambda: bucket.get_if_changed("key", md5(b""), limit=1),
        lambda: bucket.get_range("key", 0, 1),
        lambda: bucket.head("key"),
        lambda: list(bucket.list("")),
        lambda: put(bucket, "key", b"body"),
        lambda: bucket.delete(["key"]),
        lambda: bucket.copy("key", "other"),
    ]
    for ask in questions:
        with pytest.raises(StoreDenied):
            ask()


@pytest.mark.usefixtures("reader")
def test_who_may_only_read_reads_and_does_not_write(seaweedfs: S3Server) -> None:
    seaweedfs.admin.create_bucket(Bucket=READABLE_BUCKET)
    seaweedfs.admin.put_object(Bucket=READABLE_BUCKET, Key="key", Body=b"body")
    bucket = S3Bucket(READABLE_BUCKET)
    assert bucket.get("key", limit=10).body == b"body"
    assert [entry.key for entry in bucket.list("")] == ["key"]
    with pytest.raises(StoreDenied):
        put(bucket, "key", b"other")


@pytest.mark.parametrize(
    ("access_key", "secret_key"), [("AKNOBODY", "SKADMIN"), ("AKADMIN", "WRONG")], ids=["unknown", "wrong"]
)
def test_a_wrong_access_key_is_denied_and_no_secret_is_told(
    seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch, access_key: str, secret_key: str
) -> None:
    enter(seaweedfs, monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret_key)
    with pytest.raises(StoreDenied) as caught:
        S3Bucket("any").get("key", limit=1)
    assert secret_key not in f"{caught.value} {caught.value.hint}"
    assert "access key" in caught.value.hint
