"""What a whole agent counts, against what it reports."""

from __future__ import annotations

from s3sync_agent.counts import Counts
from s3sync_agent.errors import StoreUnavailable
from s3sync_agent.heal import check_touched
from tests.agents import Agent
from tests.fakes import MemoryBucket
from tests.publisher import Publisher
from tests.releases import PAGES

GONE = StoreUnavailable("no network", hint="wait")


def serve(agent: Agent, publisher: Publisher) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    assert agent.attempt().error is None


def counts(agent: Agent) -> Counts:
    return agent.ticker.status().counts


def test_the_status_counts_what_was_reported(agent: Agent, publisher: Publisher) -> None:
    serve(agent, publisher)
    found = counts(agent)
    staged = agent.reporter.named("stage.done")[0]
    activated = agent.reporter.named("activate.done")[0]
    assert (found.polls, found.poll_failures) == (1, 0)
    assert (found.stages, found.staged_bytes) == (1, staged["bytes"])
    assert staged["bytes"] > 0
    assert (found.activations, found.last_activation_seconds) == (1, activated["seconds"])


def test_every_failed_poll_counts_though_only_the_first_is_said(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    serve(agent, publisher)
    bucket.outage = GONE
    for _ in range(5):
        agent.attempt()
    assert len(agent.reporter.named("poll.failed")) == 1
    assert (counts(agent).polls, counts(agent).poll_failures) == (6, 5)


def test_a_release_that_cannot_be_staged_is_no_failed_poll(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    serve(agent, publisher)
    publisher.publish("v2", {path: body + b" two" for path, body in PAGES.items()})
    publisher.promote("v2")
    bucket.corrupt(publisher.pack_key("v2"))
    agent.attempt()
    agent.attempt()
    assert (counts(agent).stage_failures, counts(agent).poll_failures) == (1, 0)


def test_an_idle_poll_is_counted_and_writes_nothing(agent: Agent, publisher: Publisher) -> None:
    serve(agent, publisher)
    agent.attempt()
    written = len(agent.reporter.statuses)
    for _ in range(3):
        agent.clock.advance(agent.attempt().next_in)
    assert len(agent.reporter.statuses) == written
    assert counts(agent).polls == 5


def test_failing_on_and_on_writes_nothing_either(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    serve(agent, publisher)
    bucket.outage = GONE
    for _ in range(3):  # until it is stale
        agent.attempt()
    written = len(agent.reporter.statuses)
    for _ in range(3):
        agent.attempt()
    assert len(agent.reporter.statuses) == written


def test_drift_that_was_healed_is_told_with_the_next_poll(agent: Agent, publisher: Publisher) -> None:
    serve(agent, publisher)
    page = agent.settings.state.live / "index.html"
    page.chmod(0o644)
    page.write_bytes(b"defaced")
    check_touched(agent.instance, ["index.html"])
    agent.attempt()
    told = agent.reporter.statuses[-1].counts
    assert (told.drift_found, told.drift_healed, told.drift_failed) == (1, 1, 0)


def test_the_status_says_whether_the_balancer_sends_requests(agent: Agent, publisher: Publisher) -> None:
    assert not agent.ticker.status().healthy
    serve(agent, publisher)
    assert agent.ticker.status().healthy
