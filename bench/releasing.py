"""From a folder to live and back: publish, cold start, updates, rollbacks, each by the real commands.

Time is taken on an instance that asks S3 directly. A second one takes the same steps through a counter,
because counting costs time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.content import change_pages
from bench.figures import Figure, figure
from bench.world import CHANGED, Instance, World, timed
from s3sync_agent.layout import parse_site
from tests.counting import Counter, counted

PART = 8 * 1024 * 1024  # DESIGN's own word for what one request may bring
UPDATE_REQUESTS = 4
FIRST_PUBLISHES = 3  # of 10,000 objects each


@dataclass(frozen=True, slots=True)
class Course:
    """One kind of step, taken several times: how long, and how many requests."""

    seconds: list[float] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)


def measure(world: World) -> Iterator[Figure]:
    site, first = _publish_first(world)
    yield figure(f"publish {world.files:,} files, first", "s", first)
    operator = world.environ(site)
    timed("s3sync", "promote", "v0", "--now", "--no-mirror", environ=operator)
    yield figure("cold start", "s", _cold_starts(world, site))

    with counted(world.server.endpoint) as counter:
        instance = world.new_instance(site)
        watched = world.new_instance(site, endpoint=counter.endpoint)
        instance.run_once()
        budget = 2 + math.ceil(_pack_size(world, site) / PART)
        yield figure("cold start", "requests", [_requests(watched, counter)], budget)
        idle = Course()
        for _ in range(world.runs):
            _tick(instance, watched, counter, idle)
        yield figure("no-op poll", "requests", idle.requests, budget=1)
        yield figure("no-op poll, in a process of its own", "s", idle.seconds)

        published: list[float] = []
        updates, rollbacks, commands = Course(), Course(), []
        for turn in range(1, world.runs + 1):
            change_pages(world.site, CHANGED, turn)
            published.append(_publish(world, operator, f"v{turn}"))
            timed("s3sync", "promote", f"v{turn}", "--now", "--no-mirror", environ=operator)
            _tick(instance, watched, counter, updates)
            commands.append(timed("s3sync", "rollback", "--no-mirror", environ=operator))
            _tick(instance, watched, counter, rollbacks)
            # Forward again, from the disk, so that the next update starts where this one ended.
            timed("s3sync", "promote", f"v{turn}", "--now", "--no-mirror", environ=operator)
            _tick(instance, watched, counter, Course())

    yield figure(f"publish again, {CHANGED} files changed", "s", published)
    yield figure(f"update of {CHANGED} files", "s", updates.seconds)
    yield figure(f"update of {CHANGED} files", "requests", updates.requests, UPDATE_REQUESTS)
    yield figure("rollback, the command", "s", commands)
    yield figure("rollback, on the instance", "s", rollbacks.seconds)
    yield figure("rollback, on the instance", "requests", rollbacks.requests, budget=1)


def _publish_first(world: World) -> tuple[str, list[float]]:
    """Into a new site every time; the last one, and the seconds of all."""
    sites = [world.new_site() for _ in range(FIRST_PUBLISHES)]
    return sites[-1], [_publish(world, world.environ(site), "v0") for site in sites]


def _publish(world: World, environ: dict[str, str], version: str) -> float:
    return timed("s3sync", "publish", str(world.site), "--version", version, environ=environ)


def _cold_starts(world: World, site: str) -> list[float]:
    seconds = []
    for _ in range(world.runs):
        instance = world.new_instance(site)
        seconds.append(instance.run_once())
        instance.remove()
    return seconds


def _tick(instance: Instance, watched: Instance, counter: Counter, course: Course) -> None:
    course.seconds.append(instance.run_once())
    course.requests.append(_requests(watched, counter))


def _requests(watched: Instance, counter: Counter) -> int:
    counter.forget()
    watched.run_once()
    return len(counter.asked)


def _pack_size(world: World, url: str) -> int:
    """Bytes of the pack of v0."""
    site = parse_site(url)
    listing = world.server.admin.list_objects_v2(Bucket=site.bucket, Prefix=site.release("v0") + ".s3sync/")
    return sum(item["Size"] for item in listing["Contents"] if item["Key"].endswith(".pack"))
