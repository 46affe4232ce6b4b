"""Releases put into a bucket by hand, exactly as the contract says, without `publish`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from s3sync_agent.deploy.releases import StoredManifest
from s3sync_agent.layout import Site, is_immutable
from s3sync_agent.pack import compress, preferred_encoding
from s3sync_agent.pointer import Pointer, ReleaseRef, encode_pointer, promoted
from s3sync_agent.release import FileEntry, Manifest, Pack, Source, digest, encode_manifest, new_manifest
from tests.fakes import MemoryBucket

SITE = Site("bucket", "site")
NOON = 1_800_000_000.0  # some moment, in unix seconds

PAGES = {
    "index.html": b"<h1>hello</h1>" * 20,
    "about/index.html": b"<h1>about</h1>" * 20,
    "assets/app-3f2a9c1b.js": b"console.log(1)" * 20,
    "logo.png": b"\x89PNG not really",
}


def place_release(
    bucket: MemoryBucket,
    version: str,
    files: Mapping[str, bytes] = PAGES,
    *,
    site: Site = SITE,
    browsable: bool = True,
    at: float | None = None,
) -> StoredManifest:
    """A whole release, as `publish` would have left it."""
    entries, pack = _pack(files)
    manifest = new_manifest(
        version=version,
        created_at="2026-11-22T18:15:00Z",
        source=Source(commit="1a2b3c4d5e6f", ref="refs/heads/main"),
        pack=Pack(len(pack), digest(pack)),
        files=entries,
    )
    if browsable:
        for path, body in files.items():
            bucket.place(site.release(version) + path, body, last_modified=at)
    bucket.place(site.pack(version, digest(pack)), pack, last_modified=at)
    return place_manifest(bucket, manifest, site=site, at=at)


def place_manifest(
    bucket: MemoryBucket, manifest: Manifest, *, site: Site = SITE, at: float | None = None
) -> StoredManifest:
    raw = encode_manifest(manifest)
    bucket.place(site.manifest(manifest.version), raw, last_modified=at)
    return StoredManifest(manifest, digest(raw), len(raw))


def place_pointer(bucket: MemoryBucket, pointer: Pointer, *, site: Site = SITE) -> None:
    bucket.place(site.pointer, encode_pointer(pointer))


def reference(version: str, *, promotion: int = 1, sha256: str = "") -> ReleaseRef:
    return ReleaseRef(
        version=version,
        manifest_sha256=sha256 or hashlib.sha256(version.encode()).hexdigest(),
        manifest_size=100,
        promotion_id=f"promotion-{promotion:06}",
    )


def pointer_after(*versions: str) -> Pointer:
    """The pointer after these promotions, one a minute, by somebody."""
    pointer: Pointer | None = None
    for count, version in enumerate(versions):
        pointer = promoted(
            pointer,
            site=SITE.url,
            ref=reference(version, promotion=count),
            by="somebody",
            reason="",
            now=NOON + 60 * count,
        )
    if pointer is None:
        raise ValueError("name a version")
    return pointer


def _pack(files: Mapping[str, bytes]) -> tuple[tuple[FileEntry, ...], bytes]:
    pack = bytearray()
    entries = []
    for path, body in sorted(files.items()):
        offset = len(pack)
        encoding = preferred_encoding(path, len(body))
        if encoding == "zstd":
            compress([body], len(body), pack.extend)
        else:
            pack.extend(body)
        entries.append(
            FileEntry(
                path=path,
                size=len(body),
                sha256=digest(body),
                offset=offset,
                length=len(pack) - offset,
                encoding=encoding,
                immutable=is_immutable(path),
            )
        )
    return tuple(entries), bytes(pack)
