"""Is a release in S3 whole? Reads all of it, with bounded memory, and lists every fault. Reads only."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from s3sync_agent.bucket import Bucket, Listed
from s3sync_agent.deploy.releases import browsable, load_manifest
from s3sync_agent.errors import (
    DigestMismatch,
    ManifestInvalid,
    ObjectMissing,
    PreconditionFailed,
    UnsafePath,
)
from s3sync_agent.layout import Site, escape
from s3sync_agent.pack import CHUNK, FrameReader
from s3sync_agent.release import FileEntry, Manifest, Pack

RANGE_BYTES = 8 * 1024 * 1024
_WORKERS = 16


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome. `browsable` counts the single objects that were compared (0 after
    `publish --no-files`); `faults` is empty when the release is whole."""

    version: str
    files: int
    pack_size: int
    browsable: int
    faults: tuple[str, ...]


def verify_release(bucket: Bucket, site: Site, version: str) -> Verification:
    """Check manifest, pack, every frame and every browsable object of `version`.

    Raises ReleaseMissing when there is no such release, and StoreError when S3 could not be
    asked: neither is a fault of the release.
    """
    try:
        manifest = load_manifest(bucket, site, version).manifest
    except (ManifestInvalid, DigestMismatch, UnsafePath) as error:
        return Verification(version, files=0, pack_size=0, browsable=0, faults=(str(error),))
    if manifest.pack is None:
        faults = ["the manifest names no pack"]
    else:
        faults = _pack_faults(bucket, site.pack(version, manifest.pack.sha256), manifest.pack, manifest.files)
    objects = dict(browsable(bucket, site, version))
    faults += _browsable_faults(bucket, manifest, objects) if objects else []
    return Verification(
        version=version,
        files=len(manifest.files),
        pack_size=manifest.pack.size if manifest.pack else 0,
        browsable=len(objects),
        faults=tuple(faults),
    )


def _pack_faults(bucket: Bucket, key: str, pack: Pack, files: Sequence[FileEntry]) -> list[str]:
    info = bucket.head(key)
    if info is None:
        return ["the pack is missing"]
    if info.size != pack.size:
        return [f"the pack has {info.size} bytes, the manifest says {pack.size}"]
    frames = _Frames(files)
    sha256 = hashlib.sha256()
    for start in range(0, pack.size, RANGE_BYTES):
        try:
            data = bucket.get_range(key, start, min(start + RANGE_BYTES, pack.size))
        except (ObjectMissing, DigestMismatch) as error:
            return [*frames.faults, f"the pack changed while it was read: {error}"]
        sha256.update(data)
        frames.feed(start, memoryview(data))
    faults = frames.finish()
    if sha256.hexdigest() != pack.sha256:
        faults.insert(0, "the pack does not have the SHA-256 the manifest announces")
    return faults


class _Frames:
    """Decodes all frames of a pack from its bytes, as they pass by once from start to end."""

    def __init__(self, files: Sequence[FileEntry]) -> None:
        self.faults: list[str] = []
        self._waiting = sorted(files, key=lambda entry: (entry.offset, entry.length), reverse=True)
        self._begun: list[tuple[FileEntry, FrameReader]] = []  # several when equal files share a frame

    def feed(self, start: int, data: memoryview) -> None:
        """The pack's bytes from `start` on, where the last call ended."""
        end = start + len(data)
        going_on, self._begun = self._begun, []
        for entry, reader in going_on:
            self._read(entry, reader, start, data)
        while self._waiting and self._waiting[-1].offset < end:
            entry = self._waiting.pop()
            self._read(entry, FrameReader(entry, _discard), start, data)

    def finish(self) -> list[str]:
        """The pack has ended; returns every fault. Frames of no bytes at its end are left."""
        for entry in reversed(self._waiting):
            self._read(entry, FrameReader(entry, _discard), entry.offset, memoryview(b""))
        return self.faults

    def _read(self, entry: FileEntry, reader: FrameReader, start: int, data: memoryview) -> None:
        """Give `reader` its part of `data`; keep it when its frame goes on after that."""
        frame_end = entry.offset + entry.length
        part = data[max(0, entry.offset - start) : frame_end - start]
        try:
            if part:
                reader.feed(part)
            if frame_end > start + len(data):
                self._begun.append((entry, reader))
            else:
                reader.finish()
        except DigestMismatch as error:
            self.faults.append(f"pack: {error}")


def _discard(_: bytes) -> None:
    """Decoding is the check; nobody needs the bytes."""


def _browsable_faults(bucket: Bucket, manifest: Manifest, objects: dict[str, Listed]) -> list[str]:
    with ThreadPoolExecutor(_WORKERS) as pool:
        faults = pool.map(lambda entry: _object_fault(bucket, entry, objects.get(entry.path)), manifest.files)
        return [
            f"file {escape(entry.path)!r} {fault}"
            for entry, fault in zip(manifest.files, faults, strict=True)
            if fault
        ]


def _object_fault(bucket: Bucket, entry: FileEntry, listed: Listed | None) -> str:
    if listed is None:
        return "is missing"
    if listed.size != entry.size:
        return f"has {listed.size} bytes, the manifest says {entry.size}"
    try:
        info = bucket.head(listed.key)
        sha256 = (info.sha256 if info else "") or _hash(bucket, listed)
    except (ObjectMissing, PreconditionFailed):
        return "changed while it was read"
    return "" if sha256 == entry.sha256 else "does not have the SHA-256 the manifest announces"


def _hash(bucket: Bucket, listed: Listed) -> str:
    sha256 = hashlib.sha256()
    with bucket.open(listed.key, if_match=listed.etag) as body:
        while data := body.read(CHUNK):
            sha256.update(data)
    return sha256.hexdigest()
