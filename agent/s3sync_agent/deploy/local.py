"""The files of a site's folder: what they hold, and that they still do when they are read again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from s3sync_agent import layout
from s3sync_agent.deploy.parallel import for_each
from s3sync_agent.deploy.progress import Counter, Progress
from s3sync_agent.errors import ReleaseRefused
from s3sync_agent.pack import CHUNK


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file as it was when it was hashed. `path` is relative to the site's folder."""

    path: str
    size: int
    sha256: str


def hash_files(root: Path, paths: Sequence[str], *, workers: int, progress: Progress) -> list[LocalFile]:
    """The files at `paths` below `root`, in that order. Raises ReleaseRefused."""
    sizes = {path: _size(root, path) for path in paths}
    counter = Counter(progress, "hash", sum(sizes.values()))
    found: dict[str, LocalFile] = {}

    def hash_one(path: str) -> None:
        with opened(root, path) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
        if size != sizes[path]:
            raise changed(path)
        found[path] = LocalFile(path, size, sha256)
        counter.add(size)

    for_each(paths, hash_one, workers=workers)
    return [found[path] for path in paths]


def _size(root: Path, path: str) -> int:
    try:
        return (root / path).stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error


@contextmanager
def opened(root: Path, path: str) -> Iterator[BufferedReader]:
    """The file, open for reading. Raises ReleaseRefused when it cannot be opened or read."""
    try:
        file = (root / path).open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    with file:
        yield file


def chunks(root: Path, file: LocalFile) -> Iterator[bytes]:
    """The bytes of `file`, piece by piece. Raises ReleaseRefused, at the end at the latest, when
    they are not those that were hashed; never yields more than `file.size` bytes."""
    left = file.size
    sha256 = hashlib.sha256()
    with opened(root, file.path) as stream:
        while data := _read(stream, file.path):
            left -= len(data)
            if left < 0:
                raise changed(file.path)
            sha256.update(data)
            yield data
    if left or sha256.hexdigest() != file.sha256:
        raise changed(file.path)


def _read(stream: BufferedReader, path: str) -> bytes:
    try:
        return stream.read(CHUNK)
    except OSError as error:
        raise _unreadable(path, error) from error


def changed(path: str) -> ReleaseRefused:
    return ReleaseRefused(
        f"{layout.escape(path)!r} changed while it was being published",
        hint="let the build end first, then publish again; nothing is live and what went up is kept",
    )


def _unreadable(path: str, error: OSError) -> ReleaseRefused:
    return ReleaseRefused(
        f"{layout.escape(path)!r} cannot be read: {error.strerror}",
        hint="let the build end first, and check the permissions; then publish again",
    )
