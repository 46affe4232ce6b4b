"""Runs a command that is sent a signal when the process that started it ends, however it ends.

    python leash.py PARENT SIGNAL COMMAND…

Linux does this for a child that asks for it (PR_SET_PDEATHSIG), and it holds after exec. Asking between fork
and exec of a program with threads is unsafe in Python, hence a program of its own. Nothing is imported
from this project: it starts before every command of the demo.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, number: int, command: list[str]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it ended before it was asked for
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - that is the purpose; the demo's own words, no shell


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
