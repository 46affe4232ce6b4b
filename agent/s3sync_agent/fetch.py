"""Downloading: from S3 into a tree that is being staged. Every byte is checked on the way.

Memory is bounded by what is in flight: four parts of a pack, or one chunk per object.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from s3sync_agent import layout, pack
from s3sync_agent.bucket import Bucket
from s3sync_agent.errors import ObjectMissing, PreconditionFailed, ReleaseMissing, SourceChanged
from s3sync_agent.plain import Object
from s3sync_agent.plan import Frame, Plan, Span
from s3sync_agent.webroot.staging import StagedFile, Staging

PARTS_IN_FLIGHT = 4
OBJECTS_IN_FLIGHT = 16
_CHUNK = 256 * 1024

# Called between pieces of long work: notes progress, and raises when the agent is to stop.
Beat = Callable[[], None]


def fetch_pack(bucket: Bucket, key: str, plan: Plan, staging: Staging, beat: Beat) -> None:
    """Complete the tree from the pack: one ranged GET a part, a few ahead of the one being unpacked.

    Raises DigestMismatch for content that is not what the manifest says, ReleaseMissing when there is
    no pack, StoreError, OSError.
    """
    for entry in plan.empty:
        writer = _FrameWriter(Frame(entry, (entry.path,)), staging)
        writer.finish()
    with ThreadPoolExecutor(PARTS_IN_FLIGHT, thread_name_prefix="fetch") as pool:
        parts = _parts(bucket, key, plan.spans, pool, beat)
        try:
            for span in plan.spans:
                _unpack(span, parts, staging)
        except ObjectMissing as error:
            raise ReleaseMissing(
                f"the pack {key} is gone", hint="publish the release again under a new version"
            ) from error


def _parts(
    bucket: Bucket, key: str, spans: Sequence[Span], pool: ThreadPoolExecutor, beat: Beat
) -> Iterator[memoryview]:
    """The bytes of all spans, in order; no part holds bytes of two."""
    ahead: deque[Future[bytes]] = deque()
    ranges = (part for span in spans for part in span.parts())
    try:
        while True:
            while len(ahead) < PARTS_IN_FLIGHT and (wanted := next(ranges, None)) is not None:
                ahead.append(pool.submit(bucket.get_range, key, *wanted))
            if not ahead:
                return
            beat()
            yield memoryview(ahead.popleft().result())
    finally:
        for future in ahead:
            future.cancel()


def _unpack(span: Span, parts: Iterator[memoryview], staging: Staging) -> None:
    """Give every frame its bytes of the span; what lies between frames is dropped."""
    position = span.start
    part = memoryview(b"")
    for frame in span.frames:
        writer = _FrameWriter(frame, staging)
        try:
            while position < frame.end:
                if not part:
                    part = next(parts)
                skipped = min(max(0, frame.entry.offset - position), len(part))
                taken = part[skipped : max(skipped, frame.end - position)]
                if taken:
                    writer.feed(taken)
                used = skipped + len(taken)
                position += used
                part = part[used:]
        except BaseException:
            writer.abandon()
            raise
        writer.finish()


class _FrameWriter:
    """Unpacks one frame into its file, and gives the file every other path with that content."""

    def __init__(self, frame: Frame, staging: Staging) -> None:
        self._frame = frame
        self._staging = staging
        self._file: StagedFile = staging.create(frame.paths[0])
        self._reader = pack.FrameReader(frame.entry, self._file.write)

    def feed(self, data: memoryview) -> None:
        self._reader.feed(data)

    def abandon(self) -> None:
        self._file.abandon()

    def finish(self) -> None:
        try:
            self._reader.finish()
        except BaseException:
            self.abandon()
            raise
        first, *others = self._frame.paths
        self._file.close(self._frame.entry.sha256)
        for path in others:
            self._staging.link(path, f"{self._staging.root}/{first}")


def fetch_objects(
    bucket: Bucket, prefix: str, objects: Sequence[Object], staging: Staging, beat: Beat
) -> dict[str, str]:
    """Write every object of a plain tree; returns path → SHA-256.

    Raises SourceChanged as soon as one is not what was listed, StoreError, OSError.
    """
    digests: dict[str, str] = {}
    with ThreadPoolExecutor(OBJECTS_IN_FLIGHT, thread_name_prefix="fetch") as pool:
        for batch in _batches(objects, OBJECTS_IN_FLIGHT * 16):
            futures = [pool.submit(_fetch_object, bucket, prefix, item, staging, beat) for item in batch]
            try:
                for item, future in zip(batch, futures, strict=True):
                    digests[item.path] = future.result()
            finally:
                for future in futures:
                    future.cancel()
    return digests


def _batches(objects: Sequence[Object], size: int) -> Iterable[Sequence[Object]]:
    for start in range(0, len(objects), size):
        yield objects[start : start + size]


def _fetch_object(bucket: Bucket, prefix: str, item: Object, staging: Staging, beat: Beat) -> str:
    beat()
    hashed = hashlib.sha256()
    size = 0
    file = staging.create(item.path)
    try:
        with bucket.open(prefix + item.path, if_match=item.etag) as body:
            while chunk := body.read(_CHUNK):
                size += len(chunk)
                if size > item.size:
                    break
                hashed.update(chunk)
                file.write(chunk)
                beat()
    except (ObjectMissing, PreconditionFailed) as error:
        file.abandon()
        raise SourceChanged(f"{layout.escape(item.path)} changed in current/ while it was read") from error
    except BaseException:
        file.abandon()
        raise
    if size != item.size:
        file.abandon()
        raise SourceChanged(f"{layout.escape(item.path)} has another size than was listed")
    file.close(hashed.hexdigest())
    return hashed.hexdigest()
