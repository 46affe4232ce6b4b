"""Visitors of a machine: they ask all the time, and every answer is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from threading import Event

from tests.nginx_process import ask
from tests.system.network import Hub

VISITORS = 4


@dataclass(slots=True)
class Visits:
    """Answers by status; what got none is counted under the name of its error."""

    answers: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return self.answers.total()

    @property
    def not_200(self) -> dict[str, int]:
        return {status: count for status, count in self.answers.items() if status != "200"}

    def __str__(self) -> str:
        return f"{self.total} requests, {sum(self.not_200.values())} non-200"


@contextmanager
def visiting(hub: Hub, address: str, *paths: str) -> Iterator[Visits]:
    """A few visitors fetch `paths` again and again until the context ends."""
    visits, enough = Visits(), Event()
    each = [hub.submit(_visit, address, paths, enough) for _ in range(VISITORS)]
    try:
        yield visits
    finally:
        enough.set()
        for future in each:
            visits.answers.update(future.result(timeout=30))


def _visit(address: str, paths: tuple[str, ...], enough: Event) -> Counter[str]:
    answers: Counter[str] = Counter()
    while not enough.is_set():
        connection = HTTPConnection(address, 80, timeout=10)
        for path in paths:
            try:
                answers[str(ask(connection, path).status)] += 1
            except (OSError, HTTPException) as error:
                answers[type(error).__name__] += 1
                connection.close()
        connection.close()
    return answers
