"""Webroot: the state directory as the agent sees and changes it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from s3sync_agent import failpoints, layout
from s3sync_agent.errors import AgentBusy, ConfigError, ManifestInvalid, ReleaseError
from s3sync_agent.release import FileEntry, Manifest, digest, parse_manifest
from s3sync_agent.retention import RetainedAsset
from s3sync_agent.webroot import durable
from s3sync_agent.webroot.assets import FindSource, sync_assets
from s3sync_agent.webroot.staging import Staging, is_pristine, remove_tree
from s3sync_agent.webroot.state import State, encode_state, parse_state

_retained = msgspec.json.Decoder(tuple[RetainedAsset, ...])


@dataclass(frozen=True, slots=True)
class Space:
    """What the file system has left for us. `inodes` is None where it does not count them."""

    size: int
    inodes: int | None


class Webroot:
    """Reads need nothing; everything that writes needs `open` first, which locks out other agents."""

    def __init__(self, paths: layout.StatePaths) -> None:
        self.paths = paths
        self._lock: int | None = None
        self._parsed: dict[str, Manifest] = {}

    # ------------------------------------------------------------------ open and close

    def open(self) -> None:
        """Create what is missing and take the lock. Raises AgentBusy, ConfigError."""
        try:
            self.make_directories()
            self._lock = _locked(self.paths.root)
        except BlockingIOError as error:
            raise AgentBusy(
                f"another agent works in {self.paths.root}",
                hint="`systemctl status s3sync-agent`; one agent serves one site",
            ) from error
        except OSError as error:
            raise ConfigError(
                f"state directory {self.paths.root} cannot be used: {error.strerror or error}",
                hint="state_dir must be on a local file system and belong to the user the agent runs as",
            ) from error

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def make_directories(self) -> None:
        """Create those that are missing, at first or because somebody removed them. Raises OSError."""
        paths = self.paths
        for directory in (paths.root, paths.releases, paths.assets, paths.manifests, paths.staging):
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)

    def sweep(self) -> list[str]:
        """Remove what a crash left behind; returns the names. `live` and `previous` stay.

        What cannot be removed (root's files, say) stays, is named with the reason, and is in nobody's way.
        """
        swept = [
            _attempted(f"staging/{leftover.name}", partial(remove_tree, leftover))
            for leftover in sorted(self.paths.staging.iterdir())
        ]
        swept += [
            _attempted(f"manifests/{manifest.name}", partial(remove_tree, manifest))
            for manifest in sorted(self.paths.manifests.iterdir())
            if not self._belongs(manifest)  # without it, its tree is staged anew
        ]
        keep = self.complete() | {self.live(), self.previous()}
        swept += [
            _attempted(f"releases/{tree.name}", partial(self.delete_tree, tree.name))
            for tree in sorted(self.paths.releases.iterdir())
            if tree.name not in keep
        ]
        return swept

    # -------------------------------------------------------------------------- reading

    def live(self) -> str | None:
        """The id of the release that is served, as the link says; None when there is none."""
        return self._linked(self.paths.live)

    def previous(self) -> str | None:
        return self._linked(self.paths.previous)

    def _linked(self, link: Path) -> str | None:
        try:
            folder, _, name = os.readlink(link).rpartition("/")  # strings: this runs several times a poll
        except OSError:  # none, or no link
            return None
        inside = folder == self.paths.releases.name and layout.RELEASE_ID_PATTERN.match(name)
        return name if inside and os.path.isdir(f"{self.paths.releases}/{name}") else None

    def complete(self) -> frozenset[str]:
        """The releases whose tree and manifest are both here."""
        try:
            trees = list(os.scandir(self.paths.releases))
        except FileNotFoundError:  # somebody removed the directory, and all of them with it
            return frozenset()
        return frozenset(
            tree.name
            for tree in trees
            if layout.RELEASE_ID_PATTERN.match(tree.name)
            and tree.is_dir(follow_symlinks=False)
            and os.path.isfile(f"{self.paths.manifests}/{tree.name}.json")
        )

    def manifest(self, release: str) -> Manifest:
        """What a tree must be. Raises ReleaseError when the file is damaged, unreadable or gone."""
        try:
            raw = self.paths.manifest(release).read_bytes()
        except FileNotFoundError as error:
            raise ManifestInvalid(f"the manifest of {release} is gone from this instance") from error
        except OSError as error:
            raise ManifestInvalid(
                f"the manifest of {release} on this instance cannot be read: {error.strerror}"
            ) from error
        if not release.endswith(f"-{digest(raw)[:12]}"):
            raise ManifestInvalid(f"the manifest of {release} on this instance was changed")
        parsed = self._parsed.get(release) or parse_manifest(raw)
        self._parsed[release] = parsed  # another thread may drop it at any time
        return parsed

    def drop_parsed(self) -> None:
        """Forget what `manifest` has parsed: one tick asks several times, between ticks it is only weight."""
        self._parsed.clear()

    def manifests(self) -> dict[str, Manifest]:
        """What every complete tree must be; one whose manifest is damaged is left out."""
        found = {}
        for release in sorted(self.complete()):
            try:
                found[release] = self.manifest(release)
            except ReleaseError:  # the next sweep removes it, and its tree is staged anew
                continue
        return found

    def retained(self) -> tuple[RetainedAsset, ...]:
        """The assets that outlive their trees; none when the file is missing or unreadable."""
        try:
            return _retained.decode(self.paths.retained.read_bytes())
        except (OSError, msgspec.DecodeError, UnicodeError):
            return ()

    def _belongs(self, manifest: Path) -> bool:
        """Whether it is readable and its tree is here."""
        try:
            self.manifest(manifest.stem)
        except ReleaseError:
            return False
        return manifest.suffix == ".json" and self.paths.release(manifest.stem).is_dir()

    def state(self) -> State:
        """What was remembered; an empty state when it is missing or unreadable."""
        try:
            raw = self.paths.state.read_bytes()
        except OSError:
            return State()
        return parse_state(raw) or State()

    def space(self) -> Space:
        found = os.statvfs(self.paths.root)
        return Space(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)

    # -------------------------------------------------------------------------- staging

    def stage(self, release: str) -> Staging:
        return Staging(durable.unique(self.paths.staging, release))

    def commit(self, staging: Staging, release: str, manifest: bytes, directories: list[str]) -> None:
        """Make a whole, verified tree a release of this instance, durably."""
        staging.close_directories(directories)
        staging.sync()
        failpoints.reach("stage.synced")
        durable.write_file(self.paths.manifest(release), manifest, scratch=self.paths.staging)
        failpoints.reach("stage.manifest")
        target = self.paths.release(release)
        if os.path.lexists(target):  # its manifest was lost: never without a tree in between
            _make_movable(target)
            durable.exchange(staging.root, target)
            remove_tree(staging.root)
        else:
            staging.root.rename(target)
        durable.sync_directory(self.paths.releases)
        target.chmod(0o555)
        failpoints.reach("stage.renamed")
        staging.close()

    def discard(self, staging: Staging) -> None:
        staging.close()
        remove_tree(staging.root)

    # ------------------------------------------------------------------------- changing

    def arm(self, release: str, *, previous: str | None) -> Armed:
        """Do all of an activation that can be done before its instant."""
        self._keep_previous(previous)
        link = durable.make_link(self.paths.live, f"releases/{release}", scratch=self.paths.staging)
        return Armed(release, link)

    def activate(self, armed: Armed) -> None:
        """Serve what was armed from the next request on: one rename, then durable."""
        failpoints.reach("activate.before")
        durable.put_link(armed.link, self.paths.live)
        failpoints.reach("activate.after")

    def disarm(self, armed: Armed) -> None:
        armed.link.unlink(missing_ok=True)

    def _keep_previous(self, previous: str | None) -> None:
        if previous is not None and previous != self.previous():
            scratch = self.paths.staging
            durable.replace_link(self.paths.previous, f"releases/{previous}", scratch=scratch)
        failpoints.reach("activate.previous")

    def save_state(self, state: State) -> None:
        failpoints.reach("state.before")
        durable.write_file(self.paths.state, encode_state(state), scratch=self.paths.staging)
        failpoints.reach("state.after")

    def save_retained(self, assets: tuple[RetainedAsset, ...]) -> None:
        raw = msgspec.json.encode(assets)
        durable.write_file(self.paths.retained, raw, scratch=self.paths.staging)
        failpoints.reach("prune.retained")

    def sync_assets(self, wanted: Mapping[str, FileEntry], find: FindSource) -> None:
        sync_assets(self.paths.assets, wanted, find, scratch=self.paths.staging)

    def move_away(self, release: str) -> Path:
        """Take a tree out of `releases/` at once; what it returns is for `remove_moved`, which is slow."""
        moved = durable.unique(self.paths.staging, release)
        tree = self.paths.release(release)
        _make_movable(tree)
        tree.rename(moved)
        failpoints.reach("prune.moved")
        return moved

    def remove_moved(self, moved: Path) -> None:
        remove_tree(moved)
        failpoints.reach("prune.deleted")

    def delete_tree(self, release: str) -> None:
        """Remove a release's tree; its manifest stays until `forget`."""
        self.remove_moved(self.move_away(release))

    def forget(self, releases: Iterable[str]) -> None:
        """Remove the manifests of releases whose trees are gone."""
        for release in releases:
            self.paths.manifest(release).unlink(missing_ok=True)

    def replace_file(self, release: str, path: str, source: Path) -> None:
        """Put `source` (in the staging directory) where a release's file is damaged or missing.

        The directories on the way are made anew when they are missing or are no directories.
        """
        tree = self.paths.release(release)
        target = tree / path
        opened = []
        for parent in [tree, *(tree / part for part in layout.parents(path))]:
            if parent.is_symlink() or not parent.is_dir():
                remove_tree(parent)
                parent.mkdir()
            parent.chmod(0o755)
            opened.append(parent)
        if target.is_dir() and not target.is_symlink():
            remove_tree(target)
        failpoints.reach("repair.before")
        source.rename(target)
        durable.sync_directory(target.parent)
        failpoints.reach("repair.after")
        for parent in reversed(opened):
            parent.chmod(0o555)

    def remove_extra(self, release: str, path: str) -> None:
        """Remove something that a release's tree should not hold."""
        target = self.paths.release(release) / path
        target.parent.chmod(0o755)
        remove_tree(target)
        target.parent.chmod(0o555)


@dataclass(frozen=True, slots=True)
class Armed:
    """A link to `release` that lies ready to be put in the place of `live`."""

    release: str
    link: Path


def _locked(directory: Path) -> int:
    """A descriptor that holds the lock on a directory. Raises BlockingIOError when somebody has it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _attempted(name: str, remove: Callable[[], None]) -> str:
    try:
        remove()
    except OSError as error:
        return f"{name} (it stays: {error.strerror})"
    return name


def _make_movable(tree: Path) -> None:
    """A directory can only be moved by who may write to it."""
    if not tree.is_symlink():
        tree.chmod(0o755)


class Inventory:
    """Where on this instance content can be linked from."""

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}

    def add(self, root: Path, entries: Iterable[FileEntry], wanted: Collection[str]) -> None:
        """Note the files of the tree at `root` whose SHA-256 is in `wanted`."""
        for entry in entries:
            if entry.sha256 in wanted:
                self._places.setdefault(entry.sha256, []).append(f"{root}/{entry.path}")

    def pristine(self, entry: FileEntry) -> str | None:
        """A file that has the content of `entry`, by size and mtime; None when there is none."""
        return next((path for path in self.places(entry) if is_pristine(path, entry)), None)

    def places(self, entry: FileEntry) -> list[str]:
        """Every file that should have the content of `entry`."""
        return self._places.get(entry.sha256, [])
