"""The same work for many items, in threads, without a queue that grows with their number."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def for_each(items: Iterable[Item], work: Callable[[Item], object], *, workers: int) -> None:
    """Call `work` once for every item, in `workers` threads.

    An error, or an interrupt, stops the taking of further items, and is raised when the work that
    had begun has ended.
    """
    waiting = iter(items)
    taking = threading.Lock()
    stopped = threading.Event()

    def worker() -> None:
        try:
            while not stopped.is_set():
                with taking:
                    try:
                        item = next(waiting)
                    except StopIteration:
                        return
                work(item)
        finally:
            stopped.set()  # there is nothing left to take, or something went wrong

    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(worker) for _ in range(workers)]
        try:
            for thread in running:
                thread.result()
        finally:
            stopped.set()
