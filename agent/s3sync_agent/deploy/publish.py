"""`s3sync publish`: a folder becomes a release in S3. Nothing that is live changes.

Everything is checked and built locally first; then the objects go up; the manifest is last, and with
it the release exists, whole, or it does not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from s3sync_agent import layout
from s3sync_agent.bucket import Bucket
from s3sync_agent.deploy.check import check_site
from s3sync_agent.deploy.content_types import content_type
from s3sync_agent.deploy.findings import Finding, Report
from s3sync_agent.deploy.local import LocalFile, changed, hash_files, opened
from s3sync_agent.deploy.packing import build_pack
from s3sync_agent.deploy.progress import Progress, silent
from s3sync_agent.deploy.releases import StoredManifest, load_manifest, read_pointer
from s3sync_agent.deploy.upload import Upload, upload_all
from s3sync_agent.errors import (
    DigestMismatch,
    PreconditionFailed,
    ReleaseError,
    ReleaseMissing,
    ReleaseRefused,
    StoreUnavailable,
)
from s3sync_agent.layout import Site
from s3sync_agent.pointer import ReleaseRef
from s3sync_agent.release import (
    Manifest,
    Pack,
    Source,
    digest,
    encode_manifest,
    new_manifest,
    parse_manifest,
)

_SHOWN = 20  # paths in one message


@dataclass(frozen=True, slots=True)
class Published:
    """A release that exists now. `already_there`: it existed before, with the same content, and
    nothing went up; `manifest_sha256` and `manifest_size` are those of the stored one. `findings` are
    the warnings of the check, `warnings` what else the author should know."""

    version: str
    manifest_sha256: str
    manifest_size: int
    files: int
    bytes_uploaded: int
    already_there: bool
    findings: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()


def publish(
    bucket: Bucket,
    site: Site,
    root: Path,
    *,
    version: str,
    source: Source,
    created_at: str,
    immutable: Sequence[str] = (),
    mutable: Sequence[str] = (),
    with_files: bool = True,
    workers: int = 16,
    progress: Progress = silent,
) -> Published:
    """Publish the folder `root` as release `version`.

    `created_at` is RFC 3339 in UTC; `immutable` and `mutable` are globs over whole paths that add to
    and take from `layout.is_immutable`. Without `with_files` only the pack goes up, which is all
    that agents read.

    Raises ConfigError (no such folder), ReleaseRefused (the check found errors, the version exists with
    other content, an immutable file changed, a file changed while it was read), DiskFull, StoreError.
    After any of them the release does not exist, and the same call goes on from what went up.
    """
    layout.check_version(version)
    report = _checked(root)
    files = hash_files(root, report.files, workers=workers, progress=progress)
    stored = _stored(bucket, site, version)
    if stored is not None:
        return _already_there(stored, files, report)

    live = _live_releases(bucket, site)
    is_immutable = partial(layout.is_immutable, extra=immutable, never=mutable)
    _refuse_changed_immutables(files, (live.active, live.baseline), is_immutable)
    former = live.active.files if live.active else ()
    with tempfile.TemporaryFile(prefix="s3sync-") as file:
        pack, entries = build_pack(
            root, files, file, former=former, is_immutable=is_immutable, workers=workers, progress=progress
        )
        manifest = new_manifest(
            version=version, created_at=created_at, source=source, pack=pack, files=entries
        )
        raw = encode_manifest(manifest)
        parse_manifest(raw, version=version)  # nothing goes up that an agent would not take
        uploads = [_pack_upload(site, version, pack, file)]
        if with_files:
            uploads[:0] = [_file_upload(site, version, root, local) for local in files]
        sent = upload_all(bucket, site.release(version), uploads, workers=workers, progress=progress)
    winner = _write_manifest(bucket, site, version, raw)
    if winner is not None:
        return _already_there(winner, files, report)
    return Published(
        version=version,
        manifest_sha256=digest(raw),
        manifest_size=len(raw),
        files=len(files),
        bytes_uploaded=sent + len(raw),
        already_there=False,
        findings=report.warnings,
        warnings=live.warnings,
    )


def _checked(root: Path) -> Report:
    report = check_site(root)
    if report.errors:
        listed = "".join(f"\n  {finding}" for finding in report.errors)
        raise ReleaseRefused(
            f"{layout.escape(str(root))!r} cannot be published:{listed}",
            hint="put these right, then publish again; `s3sync check` shows warnings too",
        )
    return report


# --------------------------------------------------------------- what exists already


def _stored(bucket: Bucket, site: Site, version: str) -> StoredManifest | None:
    """The release of that version, if there is one."""
    try:
        return load_manifest(bucket, site, version)
    except ReleaseMissing:
        return None
    except ReleaseError as error:
        raise ReleaseRefused(
            f"version {version} exists, and its manifest cannot be read: {error}",
            hint="publish under a new version; releases are never overwritten",
        ) from error


def _already_there(stored: StoredManifest, files: Sequence[LocalFile], report: Report) -> Published:
    """The same content again under the same version is a success, other content is refused.

    Content is paths, sizes and digests: time and source differ between two runs of one build.
    """
    there = {(entry.path, entry.size, entry.sha256) for entry in stored.manifest.files}
    ours = {(file.path, file.size, file.sha256) for file in files}
    if there != ours:
        different = sorted({path for path, _, _ in there ^ ours})
        raise ReleaseRefused(
            f"version {stored.manifest.version} exists with other content; releases are immutable "
            f"({_some(different)} differ)",
            hint="publish under a new version",
        )
    return Published(
        version=stored.manifest.version,
        manifest_sha256=stored.sha256,
        manifest_size=stored.size,
        files=len(files),
        bytes_uploaded=0,
        already_there=True,
        findings=report.warnings,
    )


@dataclass(frozen=True, slots=True)
class _Live:
    """The manifests that the pointer names, as far as there are any that can be read."""

    active: Manifest | None = None
    baseline: Manifest | None = None
    warnings: tuple[str, ...] = ()


def _live_releases(bucket: Bucket, site: Site) -> _Live:
    """A damaged pointer or release must not keep anybody from publishing a good one."""
    try:
        found = read_pointer(bucket, site)
    except ReleaseError as error:
        return _Live(warnings=(f"what is live was not compared: {error}",))
    if found is None:
        return _Live()
    pointer = found[0].pointer
    warnings: list[str] = []

    def manifest(ref: ReleaseRef) -> Manifest | None:
        try:
            return load_manifest(bucket, site, ref.version, ref.manifest_sha256).manifest
        except ReleaseError as error:
            warnings.append(f"{ref.version}, which the pointer names, was not compared: {error}")
            return None

    active = manifest(pointer.active)
    baseline = active
    if pointer.baseline and pointer.baseline.manifest_sha256 != pointer.active.manifest_sha256:
        baseline = manifest(pointer.baseline)
    return _Live(active, baseline, tuple(warnings))


def _refuse_changed_immutables(
    files: Sequence[LocalFile], live: Sequence[Manifest | None], is_immutable: Callable[[str], bool]
) -> None:
    """Browsers and caches hold an immutable file for a year: other bytes would never reach them.

    A compressed copy of a file in this release may differ: compressors write times and their version into
    it, and what it unpacks to has been compared (docs/adr/0010-compressed-copies.md).
    """
    paths = {file.path for file in files}
    served: dict[str, set[str]] = {}
    for manifest in live:
        for entry in manifest.files if manifest else ():
            served.setdefault(entry.path, set()).add(entry.sha256)
    different = sorted(
        file.path
        for file in files
        if is_immutable(file.path)
        and layout.original_of(file.path) not in paths
        and served.get(file.path, {file.sha256}) != {file.sha256}
    )
    if different:
        raise ReleaseRefused(
            f"named as if they never changed, but with other bytes than what is live: {_some(different)}",
            hint="let their names change with their bytes, or say that they may change: `--mutable GLOB`, "
            f"for example --mutable '{layout.escape(different[0])}'",
        )


def _some(paths: Sequence[str]) -> str:
    shown = ", ".join(repr(layout.escape(path)) for path in paths[:_SHOWN])
    return shown if len(paths) <= _SHOWN else f"{shown} and {len(paths) - _SHOWN} more"


# ------------------------------------------------------------------------ going up


def _file_upload(site: Site, version: str, root: Path, file: LocalFile) -> Upload:
    return Upload(
        key=site.release(version) + file.path,
        size=file.size,
        sha256=file.sha256,
        content_type=content_type(file.path),
        opened=partial(_reading, root, file.path),
    )


@contextmanager
def _reading(root: Path, path: str) -> Iterator[BinaryIO]:
    try:
        with opened(root, path) as file:
            yield file
    except DigestMismatch as error:  # the store compares what it reads with what was hashed
        raise changed(path) from error


def _pack_upload(site: Site, version: str, pack: Pack, file: BinaryIO) -> Upload:
    @contextmanager
    def from_its_beginning() -> Iterator[BinaryIO]:
        file.seek(0)
        yield file

    return Upload(
        key=site.pack(version, pack.sha256),
        size=pack.size,
        sha256=pack.sha256,
        content_type="application/octet-stream",
        opened=from_its_beginning,
    )


def _write_manifest(bucket: Bucket, site: Site, version: str, raw: bytes) -> StoredManifest | None:
    """From here on the release exists. Returns None when the manifest is ours, else the one that
    another publisher wrote first."""
    try:
        bucket.put(
            site.manifest(version),
            raw,
            size=len(raw),
            sha256=digest(raw),
            content_type="application/json",
            create_only=True,
        )
    except (PreconditionFailed, StoreUnavailable):
        stored = _stored(bucket, site, version)  # the answer to our own success may have been lost
        if stored is None:
            raise
        return None if stored.sha256 == digest(raw) else stored
    return None
