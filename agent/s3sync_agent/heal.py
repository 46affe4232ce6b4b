"""Healing: putting drifted files right, one by one, by replacing and never by editing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from s3sync_agent import drift, retention
from s3sync_agent.drift import Finding
from s3sync_agent.errors import ReleaseError, S3SyncError, StoreError
from s3sync_agent.fetch import fetch_objects, fetch_pack
from s3sync_agent.instance import Instance
from s3sync_agent.plain import Object
from s3sync_agent.plan import directories_of, make_plan
from s3sync_agent.release import FileEntry, Manifest
from s3sync_agent.stage import sync_assets
from s3sync_agent.webroot import Inventory, disk_errors
from s3sync_agent.webroot.staging import Staging, is_pristine, remove_tree


def check_touched(instance: Instance, paths: Iterable[str]) -> int:
    """Look at these relative paths in every tree kept here, and heal; returns how many had drifted.

    In every tree, because they share files: who appends to one appends to all.
    """
    touched = set(paths)
    found = 0
    for release, manifest in _trees(instance).items():
        root = instance.webroot.paths.release(release)
        found += _handle(instance, release, manifest, drift.scan_paths(root, manifest, touched))
    _heal_assets(instance, touched, hashing=True)
    return found


def check_everything(instance: Instance, *, hashing: bool) -> int:
    """Compare every tree with its manifest, and heal; returns how many files had drifted."""
    found = 0
    started = instance.clock.monotonic()
    live = instance.webroot.live()
    files = 0
    for release, manifest in _trees(instance).items():
        root = instance.webroot.paths.release(release)
        findings = drift.scan(root, manifest, hashing=hashing, beat=instance.beat)
        found += _handle(instance, release, manifest, findings)
        files += len(manifest.files)
    _heal_assets(instance, None, hashing=hashing)
    if hashing:
        instance.reporter.event(
            "scrub.done",
            release=live or "",
            files=files,
            found=found,
            seconds=round(instance.clock.monotonic() - started, 3),
        )
    return found


def check_release(instance: Instance, release: str) -> None:
    """Hash every file of a tree that is to go live, and put right what is not as its manifest says.

    Raises StoreError, StagingError, ReleaseError when that is not possible.
    """
    manifest = instance.webroot.manifest(release)
    root = instance.webroot.paths.release(release)
    findings = drift.scan(root, manifest, hashing=True, beat=instance.beat)
    for finding in findings:
        instance.reporter.event("drift.found", release=release, path=finding.path, kind=finding.kind)
    if findings:
        _heal(instance, release, manifest, findings)


def _trees(instance: Instance) -> dict[str, Manifest]:
    """The complete trees with readable manifests, the live one first."""
    webroot = instance.webroot
    live = webroot.live()
    found = {}
    for release in sorted(webroot.complete(), key=lambda id_: (id_ != live, id_)):
        try:
            found[release] = webroot.manifest(release)
        except ReleaseError as error:
            _report_failure(instance, release, ".s3sync/manifest.json", error)
            webroot.forget([release])  # incomplete without it, so the next tick stages it anew
    return found


def _handle(instance: Instance, release: str, manifest: Manifest, findings: Sequence[Finding]) -> int:
    for finding in findings:
        instance.reporter.event("drift.found", release=release, path=finding.path, kind=finding.kind)
    if findings and instance.settings.drift == "heal":
        try:
            _heal(instance, release, manifest, findings)
        except S3SyncError as error:
            _report_failure(instance, release, findings[0].path, error)
    return len(findings)


def _report_failure(instance: Instance, release: str, path: str, error: S3SyncError) -> None:
    instance.reporter.event(
        "drift.failed",
        release=release,
        path=path,
        error=type(error).__name__,
        message=str(error),
        hint=error.hint,
    )


def _heal(instance: Instance, release: str, manifest: Manifest, findings: Sequence[Finding]) -> None:
    wanted = {finding.path for finding in findings if finding.kind != "extra"}
    entries = tuple(entry for entry in manifest.files if entry.path in wanted)
    damaged = msgspec.structs.replace(manifest, files=entries)
    webroot = instance.webroot
    with disk_errors(release):
        staging = webroot.stage(f"heal-{release}")
        try:
            if entries:
                _gather(instance, damaged, staging)
                staging.sync()
            for finding in findings:
                if finding.kind == "extra":  # first: it may stand where a directory has to be
                    webroot.remove_extra(release, finding.path)
            for entry in entries:
                webroot.replace_file(release, entry.path, staging.root / entry.path)
        finally:
            webroot.discard(staging)
    for finding in findings:
        instance.reporter.event("drift.healed", release=release, path=finding.path, kind=finding.kind)


def _gather(instance: Instance, damaged: Manifest, staging: Staging) -> None:
    """Good copies of these files: from this disk when a file there has the right digest, else from S3."""
    staging.make_directories(directories_of(damaged))
    inventory = _inventory(instance, {entry.sha256 for entry in damaged.files})
    have = set()
    for entry in damaged.files:
        place = _intact(inventory, entry)
        if place is not None:
            staging.link(entry.path, place)
            have.add(entry.path)
    site = instance.settings.site
    if damaged.pack is not None:
        key = site.pack(damaged.version, damaged.pack.sha256)
        fetch_pack(instance.bucket, key, make_plan(damaged, have), staging, instance.beat)
        return
    missing = [
        Object(entry.path, entry.size, entry.etag, 0.0) for entry in damaged.files if entry.path not in have
    ]
    digests = fetch_objects(instance.bucket, site.current, missing, staging, instance.beat)
    for entry in damaged.files:
        if digests.get(entry.path, entry.sha256) != entry.sha256:
            raise StoreError(f"current/{entry.path} has other content under the same ETag")


def _inventory(instance: Instance, digests: set[str]) -> Inventory:
    inventory = Inventory()
    webroot = instance.webroot
    for release, manifest in _trees(instance).items():
        inventory.add(webroot.paths.release(release), manifest.files, digests)
        inventory.add(webroot.paths.assets, (e for e in manifest.files if e.immutable), digests)
    return inventory


def _intact(inventory: Inventory, entry: FileEntry) -> str | None:
    """A file with this content, by its digest: nothing less may heal another."""
    for place in inventory.places(entry):
        try:
            if is_pristine(place, entry) and drift.hash_file(place) == entry.sha256:
                return place
        except OSError:  # unreadable or gone: no source
            continue
    return None


def _heal_assets(instance: Instance, touched: set[str] | None, *, hashing: bool) -> None:
    """Drop assets that are not what their manifests say, and link the union anew."""
    if instance.settings.drift != "heal":
        return
    webroot = instance.webroot
    root = webroot.paths.assets
    union = retention.union(webroot.manifests().values(), webroot.retained())
    with disk_errors("assets"):
        for path, entry in union.items():
            if touched is not None and path not in touched:
                continue
            if drift.first_link(root, path) != path:
                continue  # a link in the place of a directory: linking the union anew removes it
            kind = drift.inspect(root, entry, hashing=hashing)
            if kind == "changed":
                instance.reporter.event("drift.found", release="assets", path=path, kind=kind)
                remove_tree(root / path)
        sync_assets(instance)
