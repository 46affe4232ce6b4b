"""Uploads: what goes up in one request, and how the rest goes up in parts.

S3 verifies one request's body by its SHA-256. It cannot do so for an object of several parts, so
there each part is verified by S3 and the whole is hashed here before the parts are put together.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from s3sync_agent.bucket.s3_errors import asking, require
from s3sync_agent.errors import DigestMismatch, StoreError
from s3sync_agent.layout import escape

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MIB: Final = 1024 * 1024
LARGEST_SINGLE: Final = 64 * MIB
LARGEST: Final = 5 * 1024 * 1024 * MIB
_PART: Final = 16 * MIB
_MOST_PARTS: Final = 10_000
_THREADS: Final = 4  # each holds one part in memory


class Rest:
    """The rest of a file, from its current position on, as a file that begins there: before a retry
    botocore rewinds a body to 0, which must be where the upload began."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = file.tell()
        self.size = file.seek(0, io.SEEK_END) - self._start
        file.seek(self._start)

    def read(self, size: int = -1, /) -> bytes:
        return self._file.read(size)

    def tell(self) -> int:
        return self._file.tell() - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = self._start if whence == io.SEEK_SET else 0
        return self._file.seek(base + offset, whence) - self._start


class PartUpload:
    """One multipart upload of `rest` to `key`, put together only when all bytes are those announced."""

    def __init__(self, client: S3Client, bucket: str, key: str) -> None:
        self._s3 = client
        self._target: Any = {"Bucket": bucket, "Key": key}
        self._url = f"s3://{bucket}/{key}"

    def run(
        self,
        rest: Rest,
        *,
        sha256: str,
        content_type: str,
        metadata: dict[str, str],
        condition: dict[str, Any],
    ) -> str:
        """Returns the ETag as S3 writes it. `condition` is If-Match or If-None-Match for the completion."""
        with asking("put", self._url):
            started = self._s3.create_multipart_upload(
                **self._target,
                ContentType=content_type,
                Metadata=metadata,
                ChecksumAlgorithm="SHA256",
                ChecksumType="COMPOSITE",
            )
        require("put", self._url, started, "UploadId")
        self._target["UploadId"] = started["UploadId"]
        try:
            parts = self._send_parts(rest, sha256)
            with asking("put", self._url, conditional=bool(condition)):
                done = self._s3.complete_multipart_upload(
                    **self._target, MultipartUpload={"Parts": parts}, **condition
                )
            require("put", self._url, done, "ETag")
            return done["ETag"]
        except BaseException as error:
            self._abort(error)
            raise

    def _send_parts(self, rest: Rest, sha256: str) -> list[CompletedPartTypeDef]:
        part_size = max(_PART, -(-rest.size // _MOST_PARTS))
        whole = hashlib.sha256()
        parts: list[CompletedPartTypeDef] = []
        sending: deque[Future[CompletedPartTypeDef]] = deque()
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="s3-part") as pool:
            for number in range(1, -(-rest.size // part_size) + 1):
                if len(sending) == _THREADS:
                    parts.append(sending.popleft().result())
                body = rest.read(part_size)
                whole.update(body)
                sending.append(pool.submit(self._send_part, number, body))
            parts.extend(future.result() for future in sending)
        if whole.hexdigest() != sha256:
            raise wrong_bytes(self._url, "do not have the SHA-256 announced")
        return parts

    def _send_part(self, number: int, body: bytes) -> CompletedPartTypeDef:
        checksum = as_header(hashlib.sha256(body).hexdigest())
        with asking("put", self._url):
            answer = self._s3.upload_part(
                **self._target, PartNumber=number, Body=body, ChecksumSHA256=checksum
            )
        require("put", self._url, answer, "ETag")
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum}

    def _abort(self, reason: BaseException) -> None:
        """Parts that nobody puts together are stored, and paid for, until someone removes them."""
        try:
            with asking("abort the upload of", self._url):
                self._s3.abort_multipart_upload(**self._target)
        except StoreError as error:
            reason.add_note(f"its parts may be left in S3: {error}")


def as_header(sha256: str) -> str:
    """A hexadecimal SHA-256 as S3's headers spell it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode()


def wrong_bytes(url: str, what: str) -> DigestMismatch:
    return DigestMismatch(
        f"put {escape(url)}: the bytes {what}; nothing was stored",
        hint="the file changed while it was uploaded; try again",
    )
