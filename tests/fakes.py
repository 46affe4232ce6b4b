"""The in-memory stand-in for S3. It passes the same contract suite as the real servers."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO

from s3sync_agent.bucket import NOT_MODIFIED, Body, Fetched, Listed, NotModified, ObjectInfo
from s3sync_agent.errors import DigestMismatch, ObjectMissing, PreconditionFailed, StoreError, TooLarge

PAGE = 1000


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What the bucket holds under one key. An empty `etag` becomes the body's MD5; `sha256` is only
    there when the writer announced it, as `put` does."""

    body: bytes
    last_modified: float
    etag: str = ""
    sha256: str = ""
    content_type: str = "application/octet-stream"
    encrypted_by_kms: bool = False

    def __post_init__(self) -> None:
        if not self.etag:
            object.__setattr__(self, "etag", hashlib.md5(self.body, usedforsecurity=False).hexdigest())


class MemoryBucket:
    """A bucket in memory that counts what it is asked and fails when it is told to.

    `objects` may be read and changed directly: that is what somebody else did to the bucket.
    `requests` holds one (operation, key) for each request a real bucket would have been sent, in
    order; a listing is one per page of 1000, under its prefix; a delete is one per batch of 1000,
    under the first key of the batch. Operations are named like the methods; in addition "read" is
    every `read` of a body that was opened, which can fail but is no request.
    `before`, when set, is called with (operation, key) before each request and may change the
    bucket or raise. `outage`, when set, is raised by every request.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self.objects: dict[str, StoredObject] = {}
        self.requests: list[tuple[str, str]] = []
        self.before: Callable[[str, str], object] | None = None
        self.outage: StoreError | None = None
        self._clock = clock
        self._lock = threading.RLock()
        self._failures: defaultdict[str, deque[Exception]] = defaultdict(deque)
        self._lost_answers: defaultdict[str, deque[Exception]] = defaultdict(deque)
        self._answered = False

    # ------------------------------------------------------------------- for tests to say

    def place(
        self,
        key: str,
        body: bytes,
        *,
        last_modified: float | None = None,
        etag: str = "",
        encrypted_by_kms: bool = False,
    ) -> StoredObject:
        """Somebody else writes an object; no request of ours is counted."""
        moment = float(int(self._clock())) if last_modified is None else last_modified
        stored = StoredObject(body, moment, etag, encrypted_by_kms=encrypted_by_kms)
        with self._lock:
            self.objects[key] = stored
        return stored

    def corrupt(self, key: str, *, at: int | None = None) -> None:
        """Flip one bit of the byte at offset `at` (default: the middle); ETag and checksum stay."""
        with self._lock:
            stored = self.objects[key]
            body = bytearray(stored.body)
            body[len(body) // 2 if at is None else at] ^= 1
            self.objects[key] = replace(stored, body=bytes(body))

    def truncate(self, key: str, size: int) -> None:
        """Lose everything from offset `size` on; ETag and checksum stay."""
        with self._lock:
            stored = self.objects[key]
            self.objects[key] = replace(stored, body=stored.body[:size])

    def fail_next(self, operation: str, error: Exception, *, times: int = 1) -> None:
        """The next `times` requests of that kind raise `error` and do nothing."""
        self._failures[operation].extend([error] * times)

    def lose_answer(self, operation: str, error: Exception) -> None:
        """The next request of that kind ("put", "copy" or "delete") is carried out, and then raises
        `error`: a connection that broke too late, or the SDK repeating what it had already done."""
        self._lost_answers[operation].append(error)

    def count(self, operation: str) -> int:
        return sum(made == operation for made, _ in self.requests)

    # ------------------------------------------------------------------------- reading

    def get(self, key: str, *, limit: int) -> Fetched:
        self._request("get", key)
        return self._whole(key, limit)

    def get_if_changed(self, key: str, etag: str, *, limit: int) -> Fetched | NotModified:
        self._request("get_if_changed", key)
        if etag and self._existing(key).etag == etag:
            return NOT_MODIFIED
        return self._whole(key, limit)

    def get_range(self, key: str, start: int, end: int) -> bytes:
        if start == end:
            return b""
        self._request("get_range", key)
        body = self._existing(key).body
        if end > len(body):
            raise DigestMismatch(f"{key} ends before byte {end}")
        return body[start:end]

    @contextmanager
    def open(self, key: str, *, if_match: str) -> Iterator[Body]:
        self._request("open", key)
        stored = self._existing(key)
        if stored.etag != if_match:
            raise PreconditionFailed(f"open {key}: the ETag is {stored.etag}, not {if_match}")
        yield _Body(self, key, stored.body)

    def head(self, key: str) -> ObjectInfo | None:
        self._request("head", key)
        stored = self.objects.get(key)
        if stored is None:
            return None
        return ObjectInfo(
            size=len(stored.body),
            etag=stored.etag,
            last_modified=stored.last_modified,
            sha256=stored.sha256,
            encrypted_by_kms=stored.encrypted_by_kms,
            announced_sha256=stored.sha256,
        )

    # ------------------------------------------------------------------------- listing

    def list(self, prefix: str) -> Iterator[Listed]:
        after = ""
        more = True
        while more:
            self._request("list", prefix)
            with self._lock:
                # Strings sort by code point, which is the order of their UTF-8 bytes.
                keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
                page = [self._listed(key) for key in keys[:PAGE]]
            more = len(keys) > PAGE
            after = keys[PAGE - 1] if more else ""
            yield from page

    def list_prefixes(self, prefix: str) -> Sequence[str]:
        with self._lock:
            below = [key[len(prefix) :] for key in self.objects if key.startswith(prefix)]
        entries = {prefix + rest[: rest.find("/") + 1] if "/" in rest else prefix + rest for rest in below}
        for _ in range(0, max(1, len(entries)), PAGE):
            self._request("list_prefixes", prefix)
        return sorted(entry for entry in entries if entry.endswith("/") and entry != prefix)

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
        content = body if isinstance(body, bytes) else body.read()
        self._request("put", key)
        if len(content) != size or hashlib.sha256(content).hexdigest() != sha256:
            raise DigestMismatch(f"put {key}: the bytes are not those announced")
        with self._lock:
            existing = self.objects.get(key)
            if create_only and existing is not None:
                raise PreconditionFailed(f"put {key}: the key is taken")
            if if_match and (existing is None or existing.etag != if_match):
                raise PreconditionFailed(f"put {key}: the ETag is not {if_match}")
            stored = StoredObject(
                content, float(int(self._clock())), sha256=sha256, content_type=content_type
            )
            self.objects[key] = stored
        self._answer("put")
        return stored.etag

    def copy(self, source: str, target: str) -> None:
        self._request("copy", target)
        with self._lock:
            stored = self._existing(source)
            self.objects[target] = replace(stored, last_modified=float(int(self._clock())))
        self._answer("copy")

    def delete(self, keys: Iterable[str]) -> None:
        remaining = deque(keys)
        while remaining:
            batch = [remaining.popleft() for _ in range(min(PAGE, len(remaining)))]
            self._request("delete", batch[0])
            with self._lock:
                for key in batch:
                    self.objects.pop(key, None)
            self._answer("delete")

    def impatient(self) -> MemoryBucket:
        return self

    def server_time(self) -> float | None:
        return self._clock() if self._answered else None

    # ------------------------------------------------------------------------- private

    def _request(self, operation: str, key: str) -> None:
        with self._lock:
            self.requests.append((operation, key))
        if self.before is not None:
            self.before(operation, key)
        self._fail(operation)
        self._answered = True

    def _fail(self, operation: str) -> None:
        if self.outage is not None:
            raise self.outage
        with self._lock:
            failure = self._failures[operation].popleft() if self._failures[operation] else None
        if failure is not None:
            raise failure

    def _answer(self, operation: str) -> None:
        with self._lock:
            lost = self._lost_answers[operation].popleft() if self._lost_answers[operation] else None
        if lost is not None:
            raise lost

    def _existing(self, key: str) -> StoredObject:
        try:
            return self.objects[key]
        except KeyError:
            raise ObjectMissing(f"there is no {key}") from None

    def _whole(self, key: str, limit: int) -> Fetched:
        stored = self._existing(key)
        if len(stored.body) > limit:
            raise TooLarge(f"{key} has {len(stored.body)} bytes, the limit is {limit}")
        return Fetched(stored.body, stored.etag)

    def _listed(self, key: str) -> Listed:
        stored = self.objects[key]
        return Listed(key, len(stored.body), stored.etag, stored.last_modified)


class _Body:
    def __init__(self, bucket: MemoryBucket, key: str, content: bytes) -> None:
        self._bucket = bucket
        self._key = key
        self._stream = io.BytesIO(content)

    def read(self, size: int, /) -> bytes:
        if self._bucket.before is not None:
            self._bucket.before("read", self._key)
        self._bucket._fail("read")  # the body is a part of its bucket
        return self._stream.read(size)
