"""Giving memory back: what staging a large release took must not stay with the daemon."""

from __future__ import annotations

import ctypes
import gc

_libc = ctypes.CDLL(None)
_M_MMAP_THRESHOLD = -3
_LARGE = 256 * 1024


def keep_large_blocks_apart() -> None:
    """Let blocks of 256 KiB and more go back to the system when they are freed.

    glibc raises that threshold by itself as soon as a large block is freed; the parts of a pack (8 MiB
    each, from several threads) then stay in its arenas: 94 MB after a cold start of 10,000 files
    instead of 61 MB. Called once, before any thread is started.
    """
    if hasattr(_libc, "mallopt"):  # glibc; musl gives large blocks back anyway
        _libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)


def give_back() -> None:
    """Collect garbage, and return free heap pages to the system."""
    gc.collect()
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
