"""Releases go live by the hundred while visitors read: nobody sees an error or a mixture.

`S3SYNC_STORM="<swaps> <requests>"` makes the storm longer; `pytest -s` shows what it was.
"""

from __future__ import annotations

import http.client
import itertools
import multiprocessing
import os
import re
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.context import SpawnContext
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.agents import Agent
from tests.fakes import MemoryBucket
from tests.nginx_process import ask, nginx_serving
from tests.publisher import Publisher

SWAPS, REQUESTS = (int(number) for number in os.environ.get("S3SYNC_STORM", "300 6000").split())
NEW_RELEASE_EVERY = 20  # swaps; the instance keeps three releases and prunes the others

ROUTES = {"/": "index.html", "/about/": "about/index.html", "/news/today.html": "news/today.html"}
NAMED = re.compile(rb"<h1>(.+?)</h1><script src=/(.+?)>")


def name_of(number: int) -> str:
    """Every other name is longer: nginx works with where `live` leads to, which may change meanwhile."""
    return f"r{number}" + "-with-a-longer-name" * (number % 2)


@cache
def files_of(release: str) -> dict[str, bytes]:
    """Every page says which release it is of and which asset it needs; the asset says whose it is. Letters
    and digits both: a token of one kind alone is not taken for a hash, and the file not for immutable."""
    asset = f"assets/app-{zlib.crc32(release.encode()):08x}a1.js"
    page = f"<h1>{release}</h1><script src=/{asset}></script>".encode()
    return {
        "index.html": page + b"<!-- front -->" * 300,
        "about/index.html": page,
        "news/today.html": page + b"<!-- news -->" * 40,
        "same.css": b"body { color: black }" * 100,
        asset: f"// {release}\n".encode() * 500,
    }


class Storm:
    """What the visitors, who are processes of their own, share with the agent: whether it is over, how
    many requests were made, and the number of the release that went live last."""

    def __init__(self, context: SpawnContext, port: int) -> None:
        self.port = port
        self.over = context.Event()
        self.made = context.Value("q", 0)
        self.live = context.Value("q", 0)


@dataclass
class Visitor:
    """`late` counts the assets that were fetched after their page's release had been replaced."""

    storm: Storm
    keep_alive: bool
    connection: http.client.HTTPConnection
    seen: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    late: int = 0

    def read(self, route: str) -> None:
        """A page, and then the asset it names."""
        page = self._get(route)
        named = NAMED.match(page)
        if named is None:
            self.faults.append(f"{route}: no page of any release: {page[:80]!r}")
            return
        release, asset = named[1].decode(), named[2].decode()
        if page != files_of(release)[ROUTES[route]]:
            self.faults.append(f"{route}: a mixture, {len(page)} bytes of {release}")
        if self._get(f"/{asset}") != files_of(release)[asset]:
            self.faults.append(f"{asset}: not that of {release}, which {route} belongs to")
        self.seen[release] += 1
        self.late += release != name_of(self.storm.live.value)

    def _get(self, path: str) -> bytes:
        answer = ask(self.connection, path)
        with self.storm.made.get_lock():
            self.storm.made.value += 1
        if answer.status != 200:
            self.faults.append(f"{path}: {answer.status}")
        if not self.keep_alive:
            self.connection.close()
        return answer.body


def visit(storm: Storm, reports: SimpleQueue[Visit], *, keep_alive: bool) -> None:
    """Read on until the storm is over; then report."""
    connection = http.client.HTTPConnection("127.0.0.1", storm.port, timeout=10)
    visitor = Visitor(storm, keep_alive, connection)
    for route in itertools.cycle(ROUTES):
        if storm.over.is_set():
            break
        try:
            visitor.read(route)
        except (OSError, http.client.HTTPException) as error:
            visitor.faults.append(f"{route}: {error!r}")
            connection.close()
    connection.close()
    reports.put(Visit(visitor.seen, visitor.faults[:20], visitor.late))


class Visit(NamedTuple):
    seen: Counter[str]
    faults: list[str]
    late: int


@contextmanager
def visited(storm: Storm, context: SpawnContext) -> Iterator[list[Visit]]:
    """Visitors come and go; when the block has ended, the list holds what each has seen."""
    reports: SimpleQueue[Visit] = context.SimpleQueue()
    visitors = [
        context.Process(target=visit, args=(storm, reports), kwargs={"keep_alive": keep_alive}, daemon=True)
        for keep_alive in (True, True, False)
    ]
    visits: list[Visit] = []
    for visitor in visitors:
        visitor.start()
    try:
        yield visits
    finally:
        storm.over.set()
        visits += [reports.get() for _ in visitors]
        for visitor in visitors:
            visitor.join(timeout=10)


@pytest.mark.timeout(60 + REQUESTS / 500)
def test_in_a_storm_of_swaps_every_page_and_its_asset_belong_together(tmp_path: Path) -> None:
    bucket = MemoryBucket()
    publisher = Publisher(bucket)
    agent = Agent(tmp_path / "state", bucket)
    folder = tmp_path / "nginx"
    folder.mkdir()
    for release in (name_of(0), name_of(1)):
        publisher.publish(release, files_of(release))
    publisher.promote(name_of(1))
    agent.tick()
    context = multiprocessing.get_context("spawn")
    with nginx_serving(agent.settings.state_dir, agent.settings.run_dir, folder) as nginx:
        storm = Storm(context, nginx.port)
        started = time.monotonic()
        with visited(storm, context) as visits:
            swap(agent, publisher, storm)
    agent.stop()
    seconds = time.monotonic() - started
    seen: Counter[str] = sum((visit.seen for visit in visits), Counter())
    late = sum(visit.late for visit in visits)
    faults = [fault for visit in visits for fault in visit.faults]
    pruned = sum(len(event["releases"]) for event in agent.reporter.named("prune.done"))
    swapped = len(agent.reporter.named("activate.done")) - 1
    print(
        f"\n{swapped:,} swaps under {storm.made.value:,} requests in {seconds:.1f} s: {len(faults)} faults; "
        f"{len(seen)} releases seen, {pruned} pruned, {late:,} assets fetched after the swap"
    )
    assert (faults, nginx.log.read_text()[-2000:]) == ([], "")
    assert swapped >= SWAPS
    assert storm.made.value >= REQUESTS
    assert len(seen) >= SWAPS / NEW_RELEASE_EVERY
    assert pruned > 0
    assert late > 0, "nobody read across a swap"


def swap(agent: Agent, publisher: Publisher, storm: Storm) -> None:
    """Two releases in turn; now and then a third is staged and takes the place of one of them."""
    newest = 1
    for count in range(1, SWAPS + 1):
        if count % NEW_RELEASE_EVERY == 0:
            newest += 1
            publisher.publish(name_of(newest), files_of(name_of(newest)))
        storm.live.value = newest - count % 2
        publisher.promote(name_of(storm.live.value))
        agent.tick()
        agent.clock.advance(agent.settings.poll_interval)
        # So many requests for each swap: both go on to the end of the storm.
        while storm.made.value < count * REQUESTS / SWAPS and not storm.over.is_set():
            time.sleep(0.0005)
