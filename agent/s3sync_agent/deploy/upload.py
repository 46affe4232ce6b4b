"""Puts a release's objects where they belong, each once, and accounts for every one of them.

Objects are only ever created. Where one is already there it must have the same bytes: then it is
kept, which is how an interrupted publish goes on; otherwise the version belongs to another build.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO

from s3sync_agent import layout
from s3sync_agent.bucket import Bucket, Listed
from s3sync_agent.deploy.parallel import for_each
from s3sync_agent.deploy.progress import Counter, Progress
from s3sync_agent.errors import (
    DigestMismatch,
    ObjectMissing,
    PreconditionFailed,
    ReleaseRefused,
    StoreUnavailable,
)
from s3sync_agent.pack import CHUNK


@dataclass(frozen=True, slots=True)
class Upload:
    """One object that the release must have. `opened` gives its bytes from their beginning."""

    key: str
    size: int
    sha256: str
    content_type: str
    opened: Callable[[], AbstractContextManager[BinaryIO]]


def upload_all(
    bucket: Bucket, folder: str, uploads: Sequence[Upload], *, workers: int, progress: Progress
) -> int:
    """Make every one of `uploads` exist below the prefix `folder`, and nothing else but other packs.

    Returns the bytes that went up. Raises ReleaseRefused when something else is there, DigestMismatch
    when the bytes are not those announced, StoreError; what went up until then stays, and the next call
    goes on from it.
    """
    there = _objects(bucket, folder)
    _refuse_strangers(there, folder, uploads)
    counter = Counter(progress, "upload", sum(upload.size for upload in uploads))
    etags: dict[str, str] = {}
    sent: list[int] = []

    def place(upload: Upload) -> None:
        listed = there.get(upload.key)
        if listed is None:
            etags[upload.key] = _create(bucket, upload)
            sent.append(upload.size)
        else:
            _require_same(bucket, upload, size=listed.size, etag=listed.etag)
            etags[upload.key] = listed.etag
        counter.add(upload.size)

    for_each(uploads, place, workers=workers)
    _account(bucket, folder, uploads, etags)
    return sum(sent)


def _objects(bucket: Bucket, folder: str) -> dict[str, Listed]:
    return {listed.key: listed for listed in bucket.list(folder)}


def _create(bucket: Bucket, upload: Upload) -> str:
    """Returns the ETag of the object, which is there now and has our bytes."""
    try:
        with upload.opened() as body:
            return bucket.put(
                upload.key,
                body,
                size=upload.size,
                sha256=upload.sha256,
                content_type=upload.content_type,
                create_only=True,
            )
    except PreconditionFailed as error:
        # Somebody was faster, or the SDK repeated what had already succeeded.
        info = bucket.head(upload.key)
        if info is None:
            raise StoreUnavailable(
                f"{layout.escape(upload.key)!r} is being written by somebody else",
                hint="run publish again when the other one has ended",
            ) from error
        _require_same(bucket, upload, size=info.size, etag=info.etag)
        return info.etag


def _account(bucket: Bucket, folder: str, uploads: Sequence[Upload], etags: dict[str, str]) -> None:
    """The last look before the release exists: all of it is there, as it was left, and nothing else.

    One more listing costs a request for 1,000 objects, and sees what happened to the first of them
    while the last went up.
    """
    there = _objects(bucket, folder)
    _refuse_strangers(there, folder, uploads)
    for upload in uploads:
        listed = there.get(upload.key)
        if listed is None:
            raise _vanished(upload.key)
        if (listed.size, listed.etag) != (upload.size, etags[upload.key]):
            _require_same(bucket, upload, size=listed.size, etag=listed.etag)


def _refuse_strangers(there: dict[str, Listed], folder: str, uploads: Sequence[Upload]) -> None:
    """Files of another build would be browsable, and mirrored, beside ours. Below `.s3sync/` a
    second pack may lie: it has another name, and the manifest says whose counts. (What the loser of a
    race puts down after our last look is in no manifest either: agents and mirror never see it.)"""
    ours = {upload.key for upload in uploads}
    strangers = sorted(
        path
        for path in (key.removeprefix(folder) for key in there if key not in ours)
        if not path.endswith("/") and path and not layout.is_reserved(path)
    )
    if strangers:
        raise ReleaseRefused(
            f"{len(strangers)} objects below {layout.escape(folder)!r} are not of this build: "
            f"{layout.escape(strangers[0])!r}{' and so on' if len(strangers) > 1 else ''}",
            hint="another build has used this version; publish under a new one",
        )


def _require_same(bucket: Bucket, upload: Upload, *, size: int, etag: str) -> None:
    if size != upload.size or not _same(bucket, upload, etag):
        raise ReleaseRefused(
            f"{layout.escape(upload.key)!r} exists with other content; releases are immutable",
            hint="another build has used this version; publish under a new one",
        )


def _same(bucket: Bucket, upload: Upload, etag: str) -> bool:
    """Whether the object, which has the right size, has our bytes.

    An ETag equal to our MD5 proves it, and listings bring ETags at a thousand a request, so resuming
    10,000 files takes ten requests and a local read. Any other ETag proves nothing (SSE-KMS,
    multipart): then the checksum that S3 stored decides, and where it has none, the bytes.
    """
    if etag == _md5(upload):
        return True
    info = bucket.head(upload.key)
    if info is None:
        raise _vanished(upload.key)
    return (info.sha256 or _stored_sha256(bucket, upload.key, info.etag)) == upload.sha256


def _md5(upload: Upload) -> str:
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with upload.opened() as file:
        while data := file.read(CHUNK):
            md5.update(data)
            sha256.update(data)
        if sha256.hexdigest() != upload.sha256:
            raise DigestMismatch(f"what should go up as {layout.escape(upload.key)!r} is not what was hashed")
    return md5.hexdigest()


def _stored_sha256(bucket: Bucket, key: str, etag: str) -> str:
    sha256 = hashlib.sha256()
    with bucket.open(key, if_match=etag) as body:
        while data := body.read(CHUNK):
            sha256.update(data)
    return sha256.hexdigest()


def _vanished(key: str) -> ObjectMissing:
    return ObjectMissing(
        f"{layout.escape(key)!r} was deleted while the release was published",
        hint="find out who deletes there (a lifecycle rule, a second `prune`), then publish again",
    )
