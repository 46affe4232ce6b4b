"""The port to S3: what this project asks of an object store, and nothing more.

`S3Bucket` (in `bucket/s3.py`) is the only way to S3, and this package the only one that imports
botocore; `MemoryBucket` (in `tests/fakes.py`) is the fake. Both pass tests/contract/test_bucket.py,
`S3Bucket` against real servers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a listing. `etag` as S3 gives it without quotes; `last_modified` unix seconds."""

    key: str
    size: int
    etag: str
    last_modified: float


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What HEAD tells.

    `sha256` is the stored and S3-verified checksum of the whole object, or "". An object that went
    up in parts has none (S3 only keeps a checksum of its parts' checksums); `announced_sha256` is
    what its writer said it would be, in the object's metadata, or "": `put` compares it with the bytes
    before it completes such an object, but S3 does not vouch for it and a copy by hand may drop it.
    """

    size: int
    etag: str
    last_modified: float
    sha256: str
    encrypted_by_kms: bool
    announced_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole small object."""

    body: bytes
    etag: str


class NotModified:
    """The object still has the ETag that was asked about."""


NOT_MODIFIED = NotModified()


class Body(Protocol):
    """The bytes of an object, streamed: `read(n)` returns at most `n` bytes, b"" at the end.
    Raises StoreUnavailable when the connection breaks or the body ends early."""

    def read(self, size: int, /) -> bytes: ...


class Bucket(Protocol):
    """Every method raises StoreUnavailable, StoreDenied or StoreMisconfigured when S3 could not
    answer; an error is never an empty answer. Waits are bounded."""

    def get(self, key: str, *, limit: int) -> Fetched:
        """The whole object. Raises ObjectMissing; TooLarge above `limit` bytes."""

    def get_if_changed(self, key: str, etag: str, *, limit: int) -> Fetched | NotModified:
        """One conditional GET. `etag` "" means unconditional. Raises ObjectMissing."""

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes [start, end) of the object; b"" without asking when that is none. Raises
        ObjectMissing; DigestMismatch when the object ends before `end`, which asking again does not
        mend; StoreUnavailable when the connection breaks."""

    def open(self, key: str, *, if_match: str) -> AbstractContextManager[Body]:
        """Stream the object as long as it has that ETag. Raises ObjectMissing, PreconditionFailed."""

    def head(self, key: str) -> ObjectInfo | None:
        """None when the key does not exist."""

    def list(self, prefix: str) -> Iterator[Listed]:
        """All objects below `prefix`, fetched page by page as the iterator is consumed. S3 sorts them
        by key as UTF-8 bytes, other servers may go folder by folder: what depends on the order sorts."""

    def list_prefixes(self, prefix: str) -> Sequence[str]:
        """The "folders" directly below `prefix`, each ending in `/`, sorted."""

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
        """Store `size` bytes whose SHA-256 (hexadecimal) the store verifies; returns the ETag.

        With `if_match` only over the object with that ETag, with `create_only` only when the key
        is free. Raises PreconditionFailed (412, 409, or 404 under `if_match`), DigestMismatch when
        the body is not `size` bytes with that SHA-256: nothing is stored then.
        A body that is a file is read from its current position to its end and may be rewound to
        there for a retry. PreconditionFailed may also be our own success whose answer was lost and
        which the SDK repeated, as StoreUnavailable may: who writes conditionally reads back.
        """

    def copy(self, source: str, target: str) -> None:
        """Server-side copy within the bucket. Raises ObjectMissing."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the keys; a key that does not exist is no error. Raises StoreError naming the
        keys that stayed."""

    def impatient(self) -> Bucket:
        """The same bucket for somebody who would rather fail soon and ask again: two attempts, seconds each,
        over connections of its own."""

    def server_time(self) -> float | None:
        """Unix seconds of S3's clock now, by its Date headers and monotonic time since: never fast, at most
        a second slow, and the less the more often S3 has answered. None before the first answer."""
