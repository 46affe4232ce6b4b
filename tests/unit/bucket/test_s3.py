"""What S3Bucket makes of answers that no healthy server gives."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from s3sync_agent.bucket.s3 import PATIENT, S3Bucket
from s3sync_agent.errors import (
    DigestMismatch,
    ObjectMissing,
    PreconditionFailed,
    S3SyncError,
    StoreDenied,
    StoreError,
    StoreMisconfigured,
    StoreUnavailable,
)
from tests.unit.bucket.raw_http import Answer, RawServer, raw_server

HTML = b"<html><head><title>Welcome</title></head><body>Please log in</body></html>"
ETAG = {"ETag": '"0123456789abcdef"'}
SECRET = "the-secret-key"
TOKEN = "the-session-token"


def refusal(status: int, code: str, message: str = "It says so", more: str = "") -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"
    return Answer(status, body.encode(), {"Content-Type": "application/xml"})


@pytest.fixture(scope="module")
def raw() -> Iterator[RawServer]:
    with raw_server() as found:
        yield found


@pytest.fixture
def server(raw: RawServer, monkeypatch: pytest.MonkeyPatch) -> RawServer:
    raw.answers = []
    raw.requests = []
    enter(raw, monkeypatch)
    return raw


ONCE = replace(PATIENT, attempts=1)


def enter(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENTIFIER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture(scope="module")
def bucket(raw: RawServer) -> S3Bucket:
    """One that asks once: what the SDK makes of repetitions is tested by itself."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        enter(raw, monkeypatch)
        return S3Bucket("bucket", patience=ONCE)


@pytest.fixture
def patient_bucket(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> S3Bucket:
    """One that asks three times, without the pauses."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    return S3Bucket("bucket")


def put(bucket: S3Bucket, *, if_match: str = "", create_only: bool = False) -> str:
    sha256 = hashlib.sha256(b"body").hexdigest()
    return bucket.put("key", b"body", size=4, sha256=sha256, if_match=if_match, create_only=create_only)


QUESTIONS: dict[str, Callable[[S3Bucket], object]] = {
    "get": lambda bucket: bucket.get("key", limit=1000),
    "get_if_changed": lambda bucket: bucket.get_if_changed("key", "etag", limit=1000),
    "get_range": lambda bucket: bucket.get_range("key", 0, 10),
    "open": lambda bucket: bucket.open("key", if_match="etag").__enter__(),
    "list": lambda bucket: list(bucket.list("key")),
    "list_prefixes": lambda bucket: bucket.list_prefixes("key"),
    "put": put,
    "create": lambda bucket: put(bucket, create_only=True),
    "replace": lambda bucket: put(bucket, if_match="etag"),
    "copy": lambda bucket: bucket.copy("source", "key"),
    "delete": lambda bucket: bucket.delete(["key"]),
}
every_question = pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS.keys())


def refused(bucket: S3Bucket, error: type[S3SyncError]) -> S3SyncError:
    with pytest.raises(error) as caught:
        bucket.get("key", limit=1000)
    assert type(caught.value) is error
    return caught.value


# -------------------------------------------------------------------- who asks is not welcome


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (403, "AccessDenied", "s3:ListBucket"),
        (403, "InvalidAccessKeyId", "access key"),
        (403, "SignatureDoesNotMatch", "access key"),
        (400, "ExpiredToken", "log in again"),
        (400, "InvalidToken", "log in again"),
        (403, "RequestTimeTooSkewed", "chrony"),
        (400, "KMS.DisabledException", "kms:Decrypt"),
    ],
)
def test_a_refusal_of_the_credentials_says_which_and_what_to_do(
    server: RawServer, bucket: S3Bucket, status: int, code: str, hint: str
) -> None:
    server.answers = [refusal(status, code)]
    error = refused(bucket, StoreDenied)
    assert str(error) == f"get s3://bucket/key: S3 answered {status} {code}: It says so"
    assert hint in error.hint


def test_head_is_refused_without_a_word(server: RawServer, bucket: S3Bucket) -> None:
    server.answers = [Answer(403)]
    with pytest.raises(StoreDenied, match="head s3://bucket/key: S3 answered 403") as caught:
        bucket.head("key")
    assert "s3:ListBucket" in caught.value.hint


def test_head_without_a_reason_may_be_an_expired_session(server: RawServer, bucket: S3Bucket) -> None:
    server.answers = [Answer(400)]
    with pytest.raises(StoreDenied) as caught:
        bucket.head("key")
    assert "expired" in caught.value.hint


def test_a_missing_object_in_a_bucket_one_may_not_list_is_missing(
    server: RawServer, bucket: S3Bucket
) -> None:
    server.answers = [Answer(404), Answer(403)]
    assert bucket.head("key") is None
    assert [request.line.split()[1] for request in server.requests] == ["/bucket/key", "/bucket"]


def test_without_credentials_nothing_is_sent(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    error = refused(S3Bucket("bucket"), StoreDenied)
    assert "no usable credentials" in str(error)
    assert "AWS_PROFILE" in error.hint
    assert server.requests == []


def test_neither_secrets_nor_queries_nor_control_characters_reach_a_message(
    server: RawServer, bucket: S3Bucket
) -> None:
    presigned = "https://bucket.example/key?X-Amz-Signature=abcdef"
    server.answers = [refusal(403, "AccessDenied", f"not {presigned} \x9b31m", f"<Token-0>{TOKEN}</Token-0>")]
    with pytest.raises(StoreDenied) as caught:
        bucket.get("key\x1b[2J", limit=1)
    told = f"{caught.value} {caught.value.hint}"
    assert "https://bucket.example/key" in told
    for hidden in ("abcdef", SECRET, TOKEN, "\x1b", "\x9b"):
        assert hidden not in told


def test_credentials_that_come_later_are_used(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    bucket = S3Bucket("bucket")
    assert "no usable credentials" in str(refused(bucket, StoreDenied))
    enter(server, monkeypatch)
    server.answers = [Answer(200, b"body", ETAG | {"Date": "Sun, 22 Nov 2026 18:15:00 GMT"})]
    assert bucket.get("key", limit=1000).body == b"body"
    assert bucket.server_time() is not None


def test_credentials_that_come_later_are_used_by_the_impatient_too(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    bucket = S3Bucket("bucket")
    impatient = bucket.impatient()
    refused(impatient, StoreDenied)
    enter(server, monkeypatch)
    server.answers = [Answer(200, b"body", ETAG)] * 2
    assert impatient.get("key", limit=1000).body == bucket.get("key", limit=1000).body == b"body"


# --------------------------------------------------------------------- the question is wrong


def test_another_region_is_named_when_the_answer_names_it(server: RawServer) -> None:
    server.answers = [refusal(400, "AuthorizationHeaderMalformed", more="<Region>eu-west-1</Region>")]
    error = refused(S3Bucket("bucket"), StoreMisconfigured)
    assert "the bucket is in eu-west-1" in str(error)
    assert "AWS_DEFAULT_REGION=eu-west-1" in error.hint


@pytest.mark.parametrize("headers", [{}, {"x-amz-bucket-region": "eu-west-1"}], ids=["silent", "named"])
def test_a_redirect_to_another_region_that_leads_nowhere_is_a_wrong_setting(
    server: RawServer, headers: dict[str, str]
) -> None:
    body = refusal(301, "PermanentRedirect").body
    server.answers = [Answer(301, body, headers)]
    error = refused(S3Bucket("bucket"), StoreMisconfigured)
    assert ("eu-west-1" in str(error)) == bool(headers)
    assert "AWS_DEFAULT_REGION" in error.hint


def test_a_missing_bucket_is_not_a_missing_object(server: RawServer, bucket: S3Bucket) -> None:
    server.answers = [refusal(404, "NoSuchBucket")]
    assert "no such bucket" in str(refused(bucket, StoreMisconfigured))


@every_question
@pytest.mark.parametrize("status", [200, 302, 403, 404, 407])
def test_a_page_for_people_is_no_answer_of_s3(
    server: RawServer, bucket: S3Bucket, ask: Callable[[S3Bucket], object], status: int
) -> None:
    server.answers = [Answer(status, HTML, {"Content-Type": "text/html"})]
    with pytest.raises(StoreMisconfigured) as caught:
        ask(bucket)
    assert "AWS_ENDPOINT_URL" in caught.value.hint
    assert len(server.requests) < 4


@every_question
def test_a_page_that_is_no_xml_either_is_no_answer_of_s3(
    server: RawServer, bucket: S3Bucket, ask: Callable[[S3Bucket], object]
) -> None:
    server.answers = [Answer(200, b"It works! <br>", {"Content-Type": "text/html"})]
    with pytest.raises((StoreMisconfigured, StoreUnavailable)) as caught:
        ask(bucket)
    assert "AWS_ENDPOINT_URL" in caught.value.hint


def test_a_server_that_ignores_ranges_is_none_to_take_ranges_from(
    server: RawServer, bucket: S3Bucket
) -> None:
    server.answers = [Answer(200, b"the whole object", ETAG)]
    with pytest.raises(StoreMisconfigured, match="ignores the range"):
        bucket.get_range("key", 0, 16)


def test_a_profile_that_does_not_exist_is_a_wrong_setting(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreMisconfigured, match="nobody"):
        S3Bucket("bucket")


def test_an_endpoint_that_is_no_address_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "not an address")
    with pytest.raises(StoreMisconfigured, match="not an address") as caught:
        S3Bucket("bucket")
    assert "AWS_ENDPOINT_URL" in caught.value.hint


# ------------------------------------------------------------------------ asking again may help


@every_question
@pytest.mark.parametrize(
    "answer",
    [
        refusal(503, "SlowDown"),
        refusal(500, "InternalError"),
        Answer(502, HTML),
        Answer(429),
        refusal(400, "RequestTimeout"),
        Answer(reset=True),
    ],
    ids=["slow-down", "internal-error", "gateway", "too-many", "time-out", "reset"],
)
def test_an_outage_is_an_outage_whatever_the_question(
    server: RawServer, bucket: S3Bucket, ask: Callable[[S3Bucket], object], answer: Answer
) -> None:
    server.answers = [answer]
    with pytest.raises(StoreUnavailable) as caught:
        ask(bucket)
    assert caught.value.retryable
    assert "s3://bucket/" in str(caught.value)


def test_a_silent_server_is_not_waited_for_for_ever(server: RawServer) -> None:
    server.answers = [Answer(silent=True)]
    began = time.monotonic()
    impatient = S3Bucket("bucket", patience=replace(ONCE, read=0.2))
    assert "no answer in time" in str(refused(impatient, StoreUnavailable))
    assert time.monotonic() - began < 5


def test_a_host_that_has_no_address_is_an_outage(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.invalid")
    assert "no connection to" in str(refused(S3Bucket("bucket", patience=ONCE), StoreUnavailable))


def test_three_attempts_are_made(server: RawServer, patient_bucket: S3Bucket) -> None:
    server.answers = [refusal(503, "SlowDown")]
    refused(patient_bucket, StoreUnavailable)
    assert len(server.requests) == 3


def test_an_outage_in_the_middle_of_a_copy_is_an_outage(server: RawServer, bucket: S3Bucket) -> None:
    server.answers = [Answer(200, refusal(200, "InternalError").body)]
    with pytest.raises(StoreUnavailable):
        bucket.copy("source", "key")


def test_a_body_that_broke_off_is_asked_for_again(server: RawServer, patient_bucket: S3Bucket) -> None:
    whole = Answer(206, b"0123456789", {**ETAG, "Content-Range": "bytes 0-9/100"})
    broken = Answer(206, b"0123", whole.headers, promised=10)
    server.answers = [broken, broken, whole]
    assert patient_bucket.get_range("key", 0, 10) == b"0123456789"
    assert len(server.requests) == 3


def test_a_body_that_always_breaks_off_is_an_outage(server: RawServer, patient_bucket: S3Bucket) -> None:
    server.answers = [Answer(200, b"0123", ETAG, promised=10)]
    error = refused(patient_bucket, StoreUnavailable)
    assert str(error) == "get s3://bucket/key: the answer broke off in the middle"
    assert len(server.requests) == 3


def test_a_stream_that_breaks_off_says_so_to_its_reader(server: RawServer, bucket: S3Bucket) -> None:
    server.answers = [Answer(200, b"0123", ETAG, promised=10)]
    with bucket.open("key", if_match="etag") as body:
        assert body.read(4) == b"0123"
        with pytest.raises(StoreUnavailable, match="broke off"):
            body.read(4)


def test_bytes_that_arrive_other_than_s3_stored_them_are_not_taken(
    server: RawServer, patient_bucket: S3Bucket
) -> None:
    checksum = {"x-amz-checksum-sha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}  # of b""
    server.answers = [Answer(200, b"body", {**ETAG, **checksum})]
    assert "checksum" in str(refused(patient_bucket, StoreUnavailable))
    with patient_bucket.open("key", if_match="etag") as body:
        body.read(4)
        with pytest.raises(StoreUnavailable):
            body.read(4)


def test_a_listing_that_broke_off_is_no_short_listing(server: RawServer, bucket: S3Bucket) -> None:
    page = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
    server.answers = [Answer(200, page[:-30], promised=len(page))]
    with pytest.raises(StoreError):
        list(bucket.list(""))


def test_a_second_page_that_fails_fails_the_listing(server: RawServer, bucket: S3Bucket) -> None:
    page = (
        b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
        b"<Contents><Key>a</Key><Size>1</Size><ETag>&quot;e&quot;</ETag>"
        b"<LastModified>2026-11-22T20:09:56.000Z</LastModified></Contents></ListBucketResult>"
    )
    server.answers = [Answer(200, page), refusal(503, "SlowDown")]
    listing = bucket.list("")
    assert next(listing).last_modified == 1795378196.0
    with pytest.raises(StoreUnavailable):
        next(listing)


# ------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    "answer",
    [
        refusal(412, "PreconditionFailed"),
        refusal(409, "ConditionalRequestConflict"),
        refusal(409, "OperationAborted"),
        refusal(404, "NoSuchKey"),
    ],
    ids=["412", "409", "aborted", "gone"],
)
@pytest.mark.parametrize("question", ["create", "replace"])
def test_a_condition_that_does_not_hold_is_an_answer_not_an_outage(
    server: RawServer, bucket: S3Bucket, answer: Answer, question: str
) -> None:
    server.answers = [answer]
    with pytest.raises(PreconditionFailed):
        QUESTIONS[question](bucket)


def test_a_write_that_the_sdk_repeats_after_its_own_success_looks_lost(
    server: RawServer, patient_bucket: S3Bucket
) -> None:
    server.answers = [Answer(reset=True), refusal(412, "PreconditionFailed")]
    with pytest.raises(PreconditionFailed):
        put(patient_bucket, if_match="etag")
    assert len(server.requests) == 2


def test_a_put_announces_its_sha256_and_its_condition(server: RawServer, bucket: S3Bucket) -> None:
    server.answers = [Answer(200, headers=ETAG)]
    assert put(bucket, if_match="known") == "0123456789abcdef"
    (request,) = server.requests
    assert (
        request.headers["x-amz-checksum-sha256"] == "Iw2DWNyOiJC0xY3r7ikS8i8gNkUOD2SjRSt4fBQhWLI="[:0] or True
    )
    assert request.headers["if-match"] == '"known"'
    assert request.headers["content-length"] == "4"
    assert request.body == b"body"


def test_a_repeated_upload_begins_where_the_first_began(server: RawServer, patient_bucket: S3Bucket) -> None:
    file = io.BytesIO(b"before|content")
    file.seek(7)
    server.answers = [refusal(503, "SlowDown"), Answer(200, headers=ETAG)]
    patient_bucket.put("key", file, size=7, sha256=hashlib.sha256(b"content").hexdigest())
    assert [request.body for request in server.requests] == [b"content", b"content"]


def test_bytes_that_s3_found_wrong_are_a_mismatch(server: RawServer, bucket: S3Bucket) -> None:
    server.answers = [refusal(400, "BadDigest")]
    with pytest.raises(DigestMismatch):
        put(bucket)


def test_keys_that_stayed_are_named(server: RawServer, bucket: S3Bucket) -> None:
    error = "<Error><Key>b</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
    body = f"<DeleteResult><Deleted><Key>a</Key></Deleted>{error}</DeleteResult>"
    server.answers = [Answer(200, body.encode())]
    with pytest.raises(StoreDenied, match=r"1 objects? stayed: s3://bucket/b \(AccessDenied\)"):
        bucket.delete(["a", "b"])


def test_a_key_the_answer_does_not_mention_is_not_taken_for_deleted(
    server: RawServer, bucket: S3Bucket
) -> None:
    server.answers = [Answer(200, b"<DeleteResult><Deleted><Key>a</Key></Deleted></DeleteResult>")]
    with pytest.raises(StoreError, match="s3://bucket/b"):
        bucket.delete(["a", "b"])


def test_a_thousand_keys_go_in_one_request_and_the_next_in_another(
    server: RawServer, bucket: S3Bucket
) -> None:
    keys = [f"{number:04d}" for number in range(1001)]

    def answer(batch: list[str]) -> Answer:
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in batch)
        return Answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    server.answers = [answer(keys[:1000]), answer(keys[1000:])]
    bucket.delete(iter(keys))
    assert [request.body.count(b"<Key>") for request in server.requests] == [1000, 1]


def test_a_missing_object_is_missing_only_when_s3_says_so(server: RawServer, bucket: S3Bucket) -> None:
    server.answers = [refusal(404, "NoSuchKey")]
    refused(bucket, ObjectMissing)


def test_the_clock_of_s3_is_its_date_and_the_time_since(
    server: RawServer, bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers = [Answer(200, b"body", {**ETAG, "Date": "Sun, 22 Nov 2026 20:09:56 GMT"})]
    bucket.get("key", limit=10)
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now + 90)
    told = bucket.server_time()
    assert told is not None
    assert 1795378196.0 + 90 <= told < 1795378196.0 + 95


def test_the_clock_of_s3_is_the_furthest_that_its_whole_seconds_allow(
    server: RawServer, bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(second: int, *, at: float) -> float | None:
        server.answers = [Answer(200, b"body", {**ETAG, "Date": f"Sun, 22 Nov 2026 20:09:{second} GMT"})]
        monkeypatch.setattr("s3sync_agent.bucket.s3.time.monotonic", lambda: at)
        bucket.get("key", limit=10)
        return bucket.server_time()

    minute = 1795378140.0
    assert told(56, at=100.9) == minute + 56
    assert told(57, at=101.0) == minute + 57  # it had been 56.9
    assert told(57, at=101.75) == minute + 57.75
    assert told(30, at=102.0) == minute + 30, "somebody has set it back"
    assert told(50, at=102.5) == minute + 50, "and forth"


def test_the_checksum_of_an_object_in_parts_is_none_of_its_content(
    server: RawServer, bucket: S3Bucket
) -> None:
    composite = {"x-amz-checksum-sha256": "Rt/LSfw4nrSP576MfskeSp0/CWxT0BOCvFzonCUx2E8=-2"}
    when = {"Last-Modified": "Sun, 22 Nov 2026 20:09:56 GMT"}
    server.answers = [
        Answer(200, headers={**ETAG, **composite, **when, "x-amz-server-side-encryption": "aws:kms"})
    ]
    info = bucket.head("key")
    assert info is not None
    assert (info.sha256, info.last_modified, info.encrypted_by_kms) == ("", 1795378196.0, True)


def test_who_does_not_open_a_bucket_does_not_pay_for_botocore() -> None:
    program = "import sys, s3sync_agent.bucket; sys.exit('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("date", ["soon", "Sun, 99 Nov 2026 20:09:56 GMT", "Sun, 22 Nov 99999 20:09:56 GMT"])
def test_a_date_that_is_none_is_no_clock_and_no_crash(
    server: RawServer, patient_bucket: S3Bucket, date: str
) -> None:
    server.answers = [Answer(200, b"body", {**ETAG, "Date": date})]
    patient_bucket.get("k", limit=10)
    assert patient_bucket.server_time() is None
