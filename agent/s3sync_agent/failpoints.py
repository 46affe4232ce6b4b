"""Named places beside the durable steps, where tests let the process die.

`S3SYNC_FAILPOINT=<name>` kills the process with SIGKILL when it reaches that name. Reaching a
name that is not armed costs one comparison.
"""

from __future__ import annotations

import os
import signal

NAMES = (
    "stage.begin",
    "stage.linked",
    "stage.fetched",
    "stage.assets",
    "stage.synced",
    "stage.manifest",
    "stage.renamed",
    "assets.linked",
    "state.before",
    "state.after",
    "activate.previous",
    "activate.before",
    "activate.after",
    "healthy.before",
    "prune.retained",
    "prune.moved",
    "prune.deleted",
    "repair.before",
    "repair.after",
)

_armed = os.environ.get("S3SYNC_FAILPOINT", "")


def reach(name: str) -> None:
    """Die here when this name is armed."""
    if name == _armed:
        os.kill(os.getpid(), signal.SIGKILL)
