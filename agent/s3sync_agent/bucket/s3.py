"""`S3Bucket`: the port to S3, over boto3's engine.

Only this package imports botocore, and only who opens a bucket imports this module: it costs 0.2 s
and 38 MB. The client is made from botocore's session directly, without the resources and the
transfer manager that boto3 puts around it (3 MB that nothing here uses); settings are boto3's own.

Time limits hold for each wait, not for a whole transfer: 5 s for a connection, 20 s for the next
bytes, three attempts. One bucket may be used by many threads.

What takes the memory is botocore's session, with its model of S3: a second client made from it costs 0.3 MB,
one with a session of its own 12 MB. So buckets that belong together share an `_Origin`.
"""

from __future__ import annotations

import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import botocore.session
from botocore.config import Config
from botocore.utils import parse_timestamp

from s3sync_agent.bucket import NOT_MODIFIED, Body, Fetched, Listed, NotModified, ObjectInfo
from s3sync_agent.bucket.s3_errors import (
    OutOfRange,
    Unchanged,
    asking,
    not_s3,
    of_key,
    require,
    wrong_endpoint,
)
from s3sync_agent.bucket.s3_upload import LARGEST, LARGEST_SINGLE, PartUpload, Rest, as_header, wrong_bytes
from s3sync_agent.errors import (
    DigestMismatch,
    ObjectMissing,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    TooLarge,
)
from s3sync_agent.layout import escape

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse
    from botocore.model import OperationModel
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        GetObjectOutputTypeDef,
        HeadObjectOutputTypeDef,
        ListObjectsV2OutputTypeDef,
    )

ANNOUNCED: Final = "s3sync-sha256"  # metadata: what the writer said the SHA-256 is
_BATCH: Final = 1000  # keys that S3 deletes in one request


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one waits for S3, in seconds: for a connection, and for the next bytes."""

    connect: float
    read: float
    attempts: int
    connections: int


PATIENT: Final = Patience(connect=5.0, read=20.0, attempts=3, connections=16)
# Two attempts, because S3 may have closed the connection that was kept since the last question.
IMPATIENT: Final = Patience(connect=2.0, read=5.0, attempts=2, connections=1)


class S3Bucket:
    """The bucket `bucket_name`, as `Bucket` promises it. Nothing is sent before the first question.
    Raises StoreMisconfigured when the AWS settings cannot be used."""

    def __init__(
        self, bucket_name: str, *, patience: Patience = PATIENT, origin: _Origin | None = None
    ) -> None:
        self._name = bucket_name
        self._patience = patience
        self._ahead: float | None = None  # of S3's clock, against the monotonic one
        self._origin = origin or _Origin(f"s3://{bucket_name}")
        self._session = self._origin.session()
        self._client = self._connect()

    def impatient(self) -> S3Bucket:
        return S3Bucket(self._name, patience=IMPATIENT, origin=self._origin)

    def _connect(self) -> S3Client:
        client = self._origin.client(self._session, self._patience)
        client.meta.events.register("after-call.s3", self._note_date)
        return client

    @property
    def _s3(self) -> S3Client:
        """A client made without credentials stays without: there is another as soon as there are some."""
        session = self._origin.session()
        if session is not self._session:
            self._session = session
            self._client = self._connect()
        return self._client

    def _url(self, key: str) -> str:
        return f"s3://{self._name}/{key}"

    # ------------------------------------------------------------------------- reading

    def get(self, key: str, *, limit: int) -> Fetched:
        return self._whole(key, limit, {})

    def get_if_changed(self, key: str, etag: str, *, limit: int) -> Fetched | NotModified:
        if not etag:
            return self._whole(key, limit, {})
        try:
            return self._whole(key, limit, {"IfNoneMatch": f'"{etag}"'})
        except Unchanged:
            return NOT_MODIFIED

    def _whole(self, key: str, limit: int, condition: dict[str, Any]) -> Fetched:
        def check(answer: GetObjectOutputTypeDef) -> None:
            if answer["ContentLength"] > limit:
                raise TooLarge(
                    f"get {escape(self._url(key))}: the object has {answer['ContentLength']} bytes, "
                    f"the limit is {limit}"
                )

        answer, body = self._read(key, {"ChecksumMode": "ENABLED", **condition}, check)
        return Fetched(body, _unquoted(answer["ETag"]))

    def get_range(self, key: str, start: int, end: int) -> bytes:
        if start == end:
            return b""

        too_short = DigestMismatch(
            f"get {escape(self._url(key))}: the object ends before byte {end}",
            hint="what is stored is damaged; `s3sync verify VERSION` lists every fault",
        )

        def check(answer: GetObjectOutputTypeDef) -> None:
            if not answer.get("ContentRange"):
                raise not_s3("get", self._url(key), "it ignores the range that was asked for")
            if answer["ContentLength"] != end - start:
                raise too_short

        try:
            return self._read(key, {"Range": f"bytes={start}-{end - 1}"}, check)[1]
        except OutOfRange:
            raise too_short from None

    def _read(
        self, key: str, arguments: dict[str, Any], check: Callable[[GetObjectOutputTypeDef], None]
    ) -> tuple[GetObjectOutputTypeDef, bytes]:
        """One object or range, read to its end after `check` has seen its headers.

        botocore repeats requests, never the reading of a body: one that broke off is asked for again
        here, a bounded number of times.
        """
        attempt = 1
        while True:
            with self._asked("get", key, arguments) as answer:
                check(answer)
                try:
                    with asking("get", self._url(key)):
                        return answer, answer["Body"].read()
                except StoreUnavailable:
                    if attempt == self._patience.attempts:
                        raise
            attempt += 1

    @contextmanager
    def _asked(self, operation: str, key: str, arguments: dict[str, Any]) -> Iterator[GetObjectOutputTypeDef]:
        with asking(operation, self._url(key)):
            answer = self._s3.get_object(Bucket=self._name, Key=key, **arguments)
        with closing(answer["Body"]):
            require(operation, self._url(key), answer, "ETag", "ContentLength")
            yield answer

    @contextmanager
    def open(self, key: str, *, if_match: str) -> Iterator[Body]:
        arguments = {"ChecksumMode": "ENABLED", "IfMatch": f'"{if_match}"'}
        with self._asked("open", key, arguments) as answer:
            yield _Body(answer["Body"], self._url(key))

    def head(self, key: str) -> ObjectInfo | None:
        try:
            with asking("head", self._url(key)):
                answer = self._s3.head_object(Bucket=self._name, Key=key, ChecksumMode="ENABLED")
        except ObjectMissing:
            self._require_bucket()
            return None
        require("head", self._url(key), answer, "ETag", "ContentLength", "LastModified")
        return ObjectInfo(
            size=answer["ContentLength"],
            etag=_unquoted(answer["ETag"]),
            last_modified=answer["LastModified"].timestamp(),
            sha256=_sha256_of_whole(answer),
            encrypted_by_kms=answer.get("ServerSideEncryption", "").startswith("aws:kms"),
            announced_sha256=answer.get("Metadata", {}).get(ANNOUNCED, ""),
        )

    def _require_bucket(self) -> None:
        """HEAD answers 404 without a word for a missing object and for a missing bucket."""
        try:
            with asking("head", self._url("")):
                self._s3.head_bucket(Bucket=self._name)
        except StoreDenied:
            return  # it exists; only listing it is not allowed

    # ------------------------------------------------------------------------- listing

    def list(self, prefix: str) -> Iterator[Listed]:
        for page in self._pages(prefix, {}):
            for entry in page.get("Contents", ()):
                yield Listed(
                    key=entry["Key"],
                    size=entry["Size"],
                    etag=_unquoted(entry["ETag"]),
                    last_modified=entry["LastModified"].timestamp(),
                )

    def list_prefixes(self, prefix: str) -> Sequence[str]:
        return sorted(
            entry["Prefix"]
            for page in self._pages(prefix, {"Delimiter": "/"})
            for entry in page.get("CommonPrefixes", ())
        )

    def _pages(self, prefix: str, arguments: dict[str, Any]) -> Iterator[ListObjectsV2OutputTypeDef]:
        url = self._url(prefix)
        position: dict[str, Any] = {}
        while True:
            with asking("list", url):
                page = self._s3.list_objects_v2(Bucket=self._name, Prefix=prefix, **arguments, **position)
            # A proxy's page that happens to be XML would read as a listing without objects.
            require("list", url, page, "IsTruncated")
            yield page
            if not page["IsTruncated"]:
                return
            require("list", url, page, "NextContinuationToken")
            position["ContinuationToken"] = page["NextContinuationToken"]

    # ------------------------------------------------------------------------- writing

    def put(
        self,
        key: str,
        body: bytes | BinaryIO,
        *,
        size: int,
        sha256: str,
        content_type: str = "application/octet-stream",
        if_match: str = "",
        create_only: bool = False,
    ) -> str:
        rest = Rest(BytesIO(body) if isinstance(body, bytes) else body)
        if rest.size != size:
            raise wrong_bytes(self._url(key), f"are {rest.size}, not the {size} announced")
        if size > LARGEST:
            raise StoreError(
                f"put {escape(self._url(key))}: {size} bytes are more than S3 stores in one object"
            )
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if create_only else {}
        if if_match:
            condition = {"IfMatch": f'"{if_match}"'}
        metadata = {ANNOUNCED: sha256}
        if size > LARGEST_SINGLE:
            upload = PartUpload(self._s3, self._name, key)
            return _unquoted(
                upload.run(
                    rest, sha256=sha256, content_type=content_type, metadata=metadata, condition=condition
                )
            )
        with asking("put", self._url(key), conditional=bool(condition)):
            answer = self._s3.put_object(
                Bucket=self._name,
                Key=key,
                Body=cast("BinaryIO", rest),
                ContentLength=size,
                ContentType=content_type,
                Metadata=metadata,
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=as_header(sha256),
                **condition,
            )
        require("put", self._url(key), answer, "ETag")
        return _unquoted(answer["ETag"])

    def copy(self, source: str, target: str) -> None:
        with asking("copy", f"{self._url(source)} to {self._url(target)}"):
            answer = self._s3.copy_object(
                Bucket=self._name, Key=target, CopySource={"Bucket": self._name, "Key": source}
            )
        require("copy", self._url(target), answer.get("CopyObjectResult", {}), "ETag")

    def delete(self, keys: Iterable[str]) -> None:
        remaining = iter(keys)
        while batch := tuple(islice(remaining, _BATCH)):
            self._delete_batch(batch)

    def _delete_batch(self, keys: Sequence[str]) -> None:
        with asking("delete", self._url(f"{keys[0]} (and {len(keys) - 1} more)" if keys[1:] else keys[0])):
            answer = self._s3.delete_objects(
                Bucket=self._name, Delete={"Objects": [{"Key": key} for key in keys]}
            )
        errors = answer.get("Errors", [])
        if errors:
            named = ", ".join(f"{self._url(e.get('Key', '?'))} ({e.get('Code', '?')})" for e in errors)
            raise of_key(errors[0].get("Code", ""), f"delete: {len(errors)} objects stayed: {escape(named)}")
        gone = {entry.get("Key") for entry in answer.get("Deleted", ())}
        stayed = [key for key in keys if key not in gone]
        if stayed:
            raise not_s3("delete", self._url(stayed[0]), f"it does not mention {len(stayed)} of the keys")

    # --------------------------------------------------------------------------- clock

    def _note_date(self, http_response: AWSResponse, **_: object) -> None:
        """S3 tells whole seconds, so its clock is up to one further than that. Of all it has told, the
        furthest is the nearest, until S3 tells what cannot be true beside it."""
        date = http_response.headers.get("Date")
        if not date:
            return
        try:
            ahead = parsedate_to_datetime(date).timestamp() - time.monotonic()
        except (ValueError, OverflowError):  # a date that is none; as if there were no header
            return
        if self._ahead is None or not ahead <= self._ahead < ahead + 1:
            self._ahead = ahead

    def server_time(self) -> float | None:
        return None if self._ahead is None else self._ahead + time.monotonic()


class _Body:
    def __init__(self, stream: StreamingBody, url: str) -> None:
        self._stream = stream
        self._url = url

    def read(self, size: int, /) -> bytes:
        with asking("read", self._url):
            return self._stream.read(size)


# ------------------------------------------------------------------------------ the client


class _Origin:
    """Makes the clients of one bucket, all from one session of botocore. Any thread may ask."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._asking = threading.Lock()
        self._session, self._has_credentials = self._look()

    def session(self) -> botocore.session.Session:
        """The session with credentials. Without, they are looked for again at each question until there are
        some: a role may come after the agent, and so may the metadata service."""
        with self._asking:
            if not self._has_credentials:
                session, found = self._look()
                if found:
                    self._session, self._has_credentials = session, True
            return self._session

    def _look(self) -> tuple[botocore.session.Session, bool]:
        """A new session, and whether it has credentials: asked before any client, for it keeps them."""
        with asking("open", self._url):
            session = botocore.session.get_session()
            session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_parse_time)
            return session, session.get_credentials() is not None

    def client(self, session: botocore.session.Session, patience: Patience) -> S3Client:
        config = Config(
            connect_timeout=patience.connect,
            read_timeout=patience.read,
            retries={"mode": "standard", "total_max_attempts": patience.attempts},
            # We announce our own SHA-256 and ask for stored checksums where the whole object is read.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            tcp_keepalive=True,
            max_pool_connections=patience.connections,
            user_agent_extra="s3sync-agent",
        )
        with self._asking, asking("open", self._url):
            try:
                client = cast("S3Client", session.create_client("s3", config=config))
            except ValueError as error:
                raise wrong_endpoint(self._url, error) from error
        client.meta.events.register_first("needs-retry.s3", _never_redirect_head_bucket)
        return client


def _never_redirect_head_bucket(request_dict: dict[str, Any], operation: OperationModel, **_: object) -> None:
    """Redirected to another region, botocore asks HeadBucket which one; when that is redirected as
    well (a captive portal redirects everything), it would ask again, until its recursion ends."""
    if operation.name == "HeadBucket":
        request_dict["context"].setdefault("s3_redirect", {})["redirected"] = True


def _parse_time(value: str) -> datetime:
    """S3's own form directly; through dateutil, parsing times is 4/5 of the CPU time of a listing."""
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):  # other services' numbers and HTTP dates
        return parse_timestamp(value)


def _unquoted(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _sha256_of_whole(answer: HeadObjectOutputTypeDef) -> str:
    """The stored checksum in hexadecimal; "" for that of an object in parts, which is one of checksums."""
    checksum = answer.get("ChecksumSHA256", "")
    if "-" in checksum or answer.get("ChecksumType") == "COMPOSITE":
        return ""
    return b64decode(checksum).hex()
