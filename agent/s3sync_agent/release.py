"""The manifest: which files a release is made of. Pure.

Format: schema 1 of docs/contract.md. The identity of a release is the SHA-256 of the stored
manifest bytes, so bytes are never re-encoded between writing and checking.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from s3sync_agent import layout
from s3sync_agent.errors import DigestMismatch, ManifestInvalid, UnsafePath

MANIFEST_TYPE = "s3sync-manifest"
SCHEMA = 1
MAX_MANIFEST_BYTES = 256 * 1024 * 1024

Encoding = Literal["zstd", "identity"]


class FileEntry(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One file. `offset` and `length` are its frame in the pack, in bytes; `size` and `sha256`
    are of the plain content. `etag` is only in manifests an instance makes for itself in plain
    mode: the S3 object the bytes came from."""

    path: str
    size: int
    sha256: str
    offset: int
    length: int
    encoding: Encoding
    immutable: bool
    etag: str = ""


class Pack(msgspec.Struct, frozen=True):
    """The object that holds all frames."""

    size: int
    sha256: str


class Source(msgspec.Struct, frozen=True):
    """Where a release was built; every field may be empty."""

    commit: str = ""
    ref: str = ""
    run_url: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The list of a release's files, sorted by path. `pack` is null only in plain mode."""

    type: str
    schema: int
    version: str
    created_at: str
    source: Source
    pack: Pack | None
    serving: dict[str, object]
    files: tuple[FileEntry, ...]

    @property
    def total_size(self) -> int:
        return sum(entry.size for entry in self.files)


def new_manifest(
    *,
    version: str,
    created_at: str,
    source: Source,
    pack: Pack | None,
    files: tuple[FileEntry, ...],
) -> Manifest:
    """A manifest of the current schema, files sorted."""
    return Manifest(
        type=MANIFEST_TYPE,
        schema=SCHEMA,
        version=version,
        created_at=created_at,
        source=source,
        pack=pack,
        serving={},
        files=tuple(sorted(files, key=lambda entry: entry.path)),
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """Compact JSON; these bytes are the release's identity."""
    return msgspec.json.encode(manifest)


def digest(raw: bytes) -> str:
    """SHA-256 in lower-case hexadecimal."""
    return hashlib.sha256(raw).hexdigest()


_decoder = msgspec.json.Decoder(Manifest)


def parse_manifest(raw: bytes, *, sha256: str | None = None, version: str | None = None) -> Manifest:
    """Bytes → a manifest that obeys every rule of the contract.

    With `sha256` the bytes must have that digest, with `version` the manifest must name it.
    Raises DigestMismatch, ManifestInvalid, UnsafePath.
    """
    if sha256 is not None and digest(raw) != sha256:
        raise DigestMismatch(
            f"manifest has SHA-256 {digest(raw)[:12]}…, the pointer says {sha256[:12]}…",
            hint="somebody changed a published release; publish it again under a new version",
        )
    try:
        manifest = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestInvalid(f"manifest cannot be read: {error}") from error
    _check_head(manifest, version)
    _check_files(manifest)
    return manifest


def _check_head(manifest: Manifest, version: str | None) -> None:
    if manifest.type != MANIFEST_TYPE:
        raise ManifestInvalid(f"type {layout.escape(manifest.type)!r} is not {MANIFEST_TYPE!r}")
    if manifest.schema != SCHEMA:
        raise ManifestInvalid(
            f"manifest schema {manifest.schema} is unknown here",
            hint="upgrade s3sync-agent on the instances first",
        )
    layout.check_version(manifest.version)
    if version is not None and manifest.version != version:
        raise ManifestInvalid(f"manifest is of version {manifest.version}, not {version}")
    if not manifest.files:
        raise ManifestInvalid(f"release {manifest.version} has no files")
    pack = manifest.pack
    if pack is not None and (pack.size < 0 or not layout.SHA256_PATTERN.match(pack.sha256)):
        raise ManifestInvalid(f"release {manifest.version}: the pack's size or SHA-256 is malformed")


def _check_files(manifest: Manifest) -> None:
    pack_size = manifest.pack.size if manifest.pack else 0
    before = ""
    for entry in manifest.files:
        try:
            layout.check_path(entry.path)
        except UnsafePath as error:
            raise UnsafePath(f"release {manifest.version}: {error}") from error
        if entry.path <= before:
            raise ManifestInvalid(f"files are not sorted, or doubled, at {layout.escape(entry.path)!r}")
        before = entry.path
        fault = _entry_fault(entry, pack_size)
        if fault:
            raise ManifestInvalid(f"file {layout.escape(entry.path)!r}: {fault}")
    layout.check_tree(entry.path for entry in manifest.files)
    _check_frames(manifest.files)


def _entry_fault(entry: FileEntry, pack_size: int) -> str:
    if not layout.SHA256_PATTERN.match(entry.sha256):
        return "sha256 is not 64 hexadecimal digits"
    if entry.size < 0 or entry.offset < 0 or entry.length < 0:
        return "a negative size, offset or length"
    if entry.offset + entry.length > pack_size:
        return "its frame lies outside the pack"
    if entry.encoding == "identity" and pack_size and entry.length != entry.size:
        return "an identity frame must be as long as the file"
    return ""


def _check_frames(files: tuple[FileEntry, ...]) -> None:
    """Frames are disjoint, except that equal content may share one."""
    end = 0
    last: FileEntry | None = None
    for entry in sorted((e for e in files if e.length), key=lambda e: (e.offset, e.length)):
        if entry.offset < end:
            same = last is not None and (
                (entry.offset, entry.length, entry.sha256, entry.size, entry.encoding)
                == (last.offset, last.length, last.sha256, last.size, last.encoding)
            )
            if not same:
                raise ManifestInvalid(f"frame of {layout.escape(entry.path)!r} overlaps another")
        end = entry.offset + entry.length
        last = entry
