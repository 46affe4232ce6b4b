"""The audience of a fleet: visitors who load pages through the balancer all the time, and check every answer.

A visit is a home page, all that it needs, another page and all that needs: each request may be answered by
another instance. A page has to be of one release from its first byte to its last; an asset has to be
there, and to have the bytes that its name was made of.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from threading import Event
from typing import NamedTuple

from tests.nginx_process import ask
from tests.system.balancer import PORT, SERVED_BY
from tests.system.content import Content, assets_of, belongs, release_of
from tests.system.network import Hub

VISITORS = 3
VISIT_SECONDS = 0.12  # with six requests each about 150 a second together
PAGES = {"/": "index.html", "/about/": "about/index.html"}
NOT_FOUND = "404.html"


class Answer(NamedTuple):
    """Between `began` and `ended`, unix seconds. `status` is the name of an error where no answer came;
    `release` is what a page says it is of; `mixture` says what does not belong together, "" when all does."""

    began: float
    ended: float
    instance: str
    path: str
    status: str
    release: str
    mixture: str


@dataclass(slots=True)
class Audience:
    """Grows while it watches. Instances are called by their address. `unhealthy` are those that became so,
    known at the end."""

    scenario: str
    answers: list[Answer] = field(default_factory=list)
    unhealthy: set[str] = field(default_factory=set)

    @property
    def total(self) -> int:
        return len(self.answers)

    @property
    def not_200(self) -> list[Answer]:
        return [each for each in self.answers if each.status != "200"]

    @property
    def mixtures(self) -> list[Answer]:
        return [each for each in self.answers if each.mixture]

    def assert_content(self, *, but: frozenset[str] | set[str] = frozenset()) -> None:
        """All answers were right, and no instance became unhealthy `but` for these."""
        wrong = self.not_200 + self.mixtures
        assert not wrong, f"{self}\n{wrong[:5]}"
        assert self.unhealthy == but, f"became unhealthy: {self.unhealthy}"

    def first_seen(self, release: str) -> dict[str, float]:
        """By instance: when its first page of this release had come."""
        return {name: min(each.ended for each in seen) for name, seen in self._pages_of(release).items()}

    def last_seen(self, release: str) -> dict[str, float]:
        """By instance: when its last page of this release was asked for."""
        return {name: max(each.began for each in seen) for name, seen in self._pages_of(release).items()}

    def served_by(self, instance: str) -> set[str]:
        """The releases of which this instance has shown a page."""
        return {each.release for each in self.answers if each.instance == instance and each.release}

    def __str__(self) -> str:
        wrong = f"non-200 {len(self.not_200)}, mixtures {len(self.mixtures)}"
        by = Counter(f"{each.status} {each.path}" for each in self.not_200)
        return f"{self.scenario}: {self.total} answers, {wrong}" + (f" ({dict(by)})" if by else "")

    def _pages_of(self, release: str) -> Mapping[str, list[Answer]]:
        seen: dict[str, list[Answer]] = {}
        for each in list(self.answers):
            if each.release == release:
                seen.setdefault(each.instance, []).append(each)
        return seen


@contextmanager
def watching(hub: Hub, address: str, known: Mapping[str, Content], scenario: str) -> Iterator[Audience]:
    """An audience, until the context ends; then a line says what it got. `known` is every content that it
    may get, by version."""
    audience, enough = Audience(scenario), Event()
    visitors = [
        hub.submit(_visitor, address, known, audience.answers, enough, number * VISIT_SECONDS / VISITORS)
        for number in range(VISITORS)
    ]
    try:
        yield audience
    finally:
        enough.set()
        for visitor in visitors:
            visitor.result(timeout=30)
        print(f"\n{audience}", flush=True)


def _visitor(
    address: str, known: Mapping[str, Content], answers: list[Answer], enough: Event, late: float
) -> None:
    due = time.monotonic() + late
    connection = HTTPConnection(address, PORT, timeout=10)
    try:
        while not enough.wait(max(0.0, due - time.monotonic())):
            due = max(due + VISIT_SECONDS, time.monotonic())
            for page in PAGES:
                _load(connection, page, known, answers)
    finally:
        connection.close()


def _load(connection: HTTPConnection, page: str, known: Mapping[str, Content], answers: list[Answer]) -> None:
    """A page and then its assets, as a browser does."""
    for asset in assets_of(_get(connection, page, known, answers)):
        _get(connection, asset, known, answers)


def _get(connection: HTTPConnection, path: str, known: Mapping[str, Content], answers: list[Answer]) -> bytes:
    began = time.time()
    try:
        answer = ask(connection, path)
    except (OSError, HTTPException) as error:
        connection.close()
        answers.append(Answer(began, time.time(), "", path, type(error).__name__, "", ""))
        return b""
    release = release_of(answer.body) if path in PAGES else ""
    answers.append(
        Answer(
            began,
            time.time(),
            answer.headers.get(SERVED_BY, ""),
            path,
            str(answer.status),
            release,
            _mixture(path, answer.status, answer.body, release, known),
        )
    )
    return answer.body if answer.status == 200 else b""


def _mixture(path: str, status: int, body: bytes, release: str, known: Mapping[str, Content]) -> str:
    """What does not belong together in an answer, or ""."""
    if path not in PAGES:
        return "" if status != 200 or belongs(path, body) else f"{path} has bytes of another name"
    if not release:
        return "" if status != 200 else f"a page of no release: {body[:80]!r}"
    file = PAGES[path] if status == 200 else NOT_FOUND
    whole = known[release].files.get(file) if release in known else None
    return "" if whole == body else f"a page of {release} with other bytes than that one's"
