"""One agent and one publisher that share a bucket and a clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agents import Agent
from tests.fakes import MemoryBucket
from tests.publisher import Publisher
from tests.unit.sync.surroundings import Site


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path / "state")
    yield agent
    agent.stop()


@pytest.fixture
def bucket(agent: Agent) -> MemoryBucket:
    assert isinstance(agent.bucket, MemoryBucket)
    return agent.bucket


@pytest.fixture
def publisher(bucket: MemoryBucket) -> Publisher:
    return Publisher(bucket)


@pytest.fixture
def site(agent: Agent) -> Site:
    return Site(agent)


@pytest.fixture
def served(agent: Agent, publisher: Publisher, site: Site) -> str:
    """v1, live and good."""
    release = publisher.publish("v1")
    publisher.promote("v1")
    agent.attempt()
    assert agent.healthy == release
    return release
