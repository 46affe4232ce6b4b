"""What the disk says, as our errors."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from s3sync_agent.errors import DiskFull, StagingError


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """An OSError while `what` is written becomes DiskFull or StagingError."""
    try:
        yield
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"the disk became full while {what} was written{where}",
                hint="something else writes to this file system too; free space there",
            ) from error
        raise StagingError(
            f"{what} cannot be written{where}: {error.strerror}",
            hint="state_dir must be writable for the agent's user, and its disk healthy (see dmesg)",
        ) from error
