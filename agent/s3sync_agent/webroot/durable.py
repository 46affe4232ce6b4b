"""The few durable steps everything else is made of.

A step has happened when its function returns, and survives a power cut from then on. Temporary
names are unique and lie in one scratch directory on the same file system, so a crash leaves nothing
that could block a later step, and a sweep of that directory is the whole clean-up.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# The file system refuses the link, not the file: too many links, other owner, other device.
_COPY_INSTEAD = {errno.EPERM, errno.EMLINK, errno.EXDEV}


def unique(scratch: Path, hint: str) -> Path:
    """A path in `scratch` that nobody else uses."""
    return scratch / f"{hint}.{secrets.token_hex(8)}"


@contextmanager
def _temporary(scratch: Path, hint: str) -> Iterator[Path]:
    """A unique name; a step that fails leaves nothing there."""
    temporary = unique(scratch, hint)
    with _removed_on_failure(temporary):
        yield temporary


@contextmanager
def _removed_on_failure(temporary: Path) -> Iterator[None]:
    """Or a full disk would fill up further."""
    try:
        yield
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(descriptor: int) -> None:
    """Write back the whole file system that `descriptor` is on.

    Errors since `descriptor` was opened are reported, so it has to be opened before the first write.
    """
    if _libc.syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "syncfs")


def write_file(path: Path, data: bytes, *, scratch: Path) -> None:
    """Replace `path` by a file with this content, at once and durably."""
    with _temporary(scratch, path.name) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.rename(path)
    sync_directory(path.parent)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """`os.write` until everything is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def replace_link(path: Path, target: str, *, scratch: Path) -> None:
    """Point the symbolic link `path` to `target`, at once and durably. `ln -sfn` is neither."""
    put_link(make_link(path, target, scratch=scratch), path)


def make_link(path: Path, target: str, *, scratch: Path) -> Path:
    """A link to `target` under a unique name, to be put at `path` later."""
    made = unique(scratch, path.name)
    with _removed_on_failure(made):
        made.symlink_to(target)
    return made


def put_link(made: Path, path: Path) -> None:
    """Let `path` be the link `made`: one rename, then durable. Nothing is left of it when that fails."""
    with _removed_on_failure(made):
        try:
            made.rename(path)
        except IsADirectoryError:  # somebody's directory: it ends up in `made`, which a sweep removes
            exchange(made, path)
    sync_directory(path.parent)


def exchange(first: Path, second: Path) -> None:
    """Swap two existing names at once (renameat2 with RENAME_EXCHANGE)."""
    done = _libc.renameat2(
        _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), ctypes.c_uint(_RENAME_EXCHANGE)
    )
    if done != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(second))


def link_or_copy(source: Path | str, target: Path) -> None:
    """Give the file `source` the further name `target`, which must be free.

    A copy, read-only and with the same mtime, where the file system refuses the link: half a file can
    be seen meanwhile, so `target` must not be served.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _COPY_INSTEAD:
            raise
        shutil.copy2(source, target, follow_symlinks=False)
        target.chmod(0o444)


def place(source: Path | str, target: Path, *, scratch: Path) -> None:
    """Let `target`, which may be served, be a file with the content of `source`, at once."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in {errno.EEXIST, *_COPY_INSTEAD}:
            raise
        with _temporary(scratch, target.name) as temporary:
            link_or_copy(source, temporary)
            temporary.rename(target)
        # Renaming one link of a file over another link of it does nothing and leaves both.
        temporary.unlink(missing_ok=True)
