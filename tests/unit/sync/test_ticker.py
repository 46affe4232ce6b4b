"""Ticks in a row: failures said once, back-off, health and status."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3sync_agent.errors import StoreDenied, StoreUnavailable
from s3sync_agent.pointer import format_time
from s3sync_agent.webroot import store
from tests.agents import Agent, FakeClock
from tests.fakes import MemoryBucket
from tests.publisher import Publisher
from tests.releases import PAGES

GONE = StoreUnavailable("no network", hint="wait")


def serve(agent: Agent, publisher: Publisher) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    assert agent.attempt().error is None


def test_a_failure_is_said_once_and_its_end_too(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    serve(agent, publisher)
    bucket.outage = GONE
    for _ in range(10):
        agent.clock.advance(agent.attempt().next_in)
    bucket.outage = None
    agent.attempt()
    assert len(agent.reporter.named("poll.failed")) == 1
    assert agent.reporter.named("poll.recovered")[0]["failures"] == 10


def test_another_failure_is_said_again(agent: Agent, bucket: MemoryBucket) -> None:
    bucket.outage = GONE
    agent.attempt()
    bucket.outage = StoreDenied("expired token", hint="renew")
    agent.attempt()
    assert [said["error"] for said in agent.reporter.named("poll.failed")] == [
        "StoreUnavailable",
        "StoreDenied",
    ]


def test_the_wait_doubles_to_a_minute_and_an_answer_resets_it(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    serve(agent, publisher)
    bucket.outage = GONE
    waits = [agent.attempt().next_in for _ in range(8)]
    assert waits[:4] == [3.75, 7.5, 15.0, 30.0]
    assert waits[4:] == [45.0] * 4
    bucket.outage = None
    assert agent.attempt().next_in == 5.0


def test_a_changed_pointer_is_taken_at_the_first_answer(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    serve(agent, publisher)
    bucket.outage = GONE
    agent.attempt()
    publisher.publish("v2", PAGES | {"index.html": b"two"})
    publisher.promote("v2")
    bucket.outage = None
    agent.attempt()
    assert agent.live["index.html"] == b"two"


def test_the_agent_is_stale_after_three_polls_without_an_answer_and_stays_healthy(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    serve(agent, publisher)
    bucket.outage = GONE
    stale = []
    for _ in range(4):
        agent.attempt()
        stale.append(agent.ticker.status().stale)
    assert stale == [False, False, True, True]
    assert agent.healthy


def test_a_rebooted_instance_without_s3_serves_its_good_tree_after_a_minute(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    serve(agent, publisher)
    agent.settings.run.healthy.unlink()
    agent.restart()
    bucket.outage = GONE
    agent.attempt()
    assert not agent.healthy
    agent.clock.advance(61)
    agent.attempt()
    assert agent.healthy == agent.webroot.live()


def test_a_lost_pointer_is_an_answer_and_a_new_one_is_taken_at_the_next_poll(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    serve(agent, publisher)
    del bucket.objects[publisher.site.pointer]
    assert [agent.attempt().next_in for _ in range(6)] == [5.0] * 6
    assert not agent.ticker.status().stale
    assert len(agent.reporter.named("poll.failed")) == 1


def test_an_agent_that_was_restarted_says_that_it_serves(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    serve(agent, publisher)
    agent.restart()
    bucket.outage = GONE
    agent.attempt()
    assert agent.ticker.status().state == "steady"


def test_a_run_time_directory_that_cannot_be_written_does_not_end_the_loop(
    agent: Agent, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(agent, publisher)

    def full(_status: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(agent.reporter, "status", full)
    agent.clock.advance(61)
    assert agent.attempt().error is not None
    assert agent.live == PAGES


def test_a_new_instance_without_s3_never_becomes_healthy(agent: Agent, bucket: MemoryBucket) -> None:
    bucket.outage = GONE
    agent.attempt()
    agent.clock.advance(3600)
    agent.attempt()
    assert not agent.healthy


def test_behind_counts_from_when_something_else_was_wanted(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    serve(agent, publisher)
    wanted = publisher.publish("v2", {path: body + b" two" for path, body in PAGES.items()})
    publisher.promote("v2")
    bucket.corrupt(publisher.pack_key("v2"))
    agent.attempt()
    agent.clock.advance(42)
    agent.attempt()
    status = agent.ticker.status()
    assert (status.wanted, status.behind_seconds) == (wanted, 42.0)
    assert status.because.startswith("content of")


def test_a_clock_that_is_set_meanwhile_changes_nothing_about_being_behind(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    serve(agent, publisher)
    publisher.publish("v2", {path: body + b" two" for path, body in PAGES.items()})
    publisher.promote("v2")
    bucket.corrupt(publisher.pack_key("v2"))
    agent.attempt()
    agent.clock.advance(42)
    for jump in (-3600, 7200):
        agent.clock.wall += jump
        assert agent.ticker.status().behind_seconds == 42.0


def test_who_asks_during_a_long_staging_is_told_what_is_wanted_and_since_when(tmp_path: Path) -> None:
    def hour_passes() -> None:
        agent.clock.advance(600)
        agent.ticker.look()

    agent = Agent(tmp_path, beat=lambda: hour_passes() if agent.live else None)
    assert isinstance(agent.bucket, MemoryBucket)
    publisher = Publisher(agent.bucket)
    serve(agent, publisher)
    wanted = publisher.publish("v2", {path: body + b" two" for path, body in PAGES.items()})
    publisher.promote("v2")
    agent.attempt()
    told = next(status for status in agent.reporter.statuses if status.wanted == wanted)
    assert (told.state, told.because) == ("staging", "it is being staged")
    assert told.serving.startswith("v1-")
    assert told.serving != wanted
    assert agent.ticker.status().behind_seconds == 0.0
    assert [status.wanted for status in agent.reporter.statuses[-1:]] == [agent.ticker.status().serving]


def test_an_outage_is_over_as_soon_as_s3_has_answered_however_long_staging_takes(tmp_path: Path) -> None:
    agent = Agent(tmp_path, beat=lambda: agent.ticker.look() if agent.live else None)
    assert isinstance(agent.bucket, MemoryBucket)
    publisher = Publisher(agent.bucket)
    serve(agent, publisher)
    agent.bucket.outage = GONE
    for _ in range(4):
        agent.clock.advance(agent.attempt().next_in)
    assert agent.ticker.status().stale
    agent.bucket.outage = None
    wanted = publisher.publish("v2", {path: body + b" two" for path, body in PAGES.items()})
    publisher.promote("v2")
    agent.attempt()
    told = next(status for status in agent.reporter.statuses if status.wanted == wanted)
    assert (told.stale, told.problem, told.because) == (False, None, "it is being staged")
    assert told.polled_at == format_time(agent.clock.now())


def test_a_clock_that_is_off_is_said_once(tmp_path: Path) -> None:
    bucket = MemoryBucket(clock=lambda: 1_800_000_600.0)
    agent = Agent(tmp_path, bucket)
    publisher = Publisher(bucket)
    publisher.publish("v1")
    publisher.promote("v1")
    for _ in range(5):
        agent.attempt()
    assert agent.reporter.named("clock.off") == [{"seconds": 600.0}]
    assert agent.ticker.status().clock_offset == 600.0
    agent.stop()


def test_a_defect_of_our_own_does_not_end_the_loop(
    agent: Agent, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(agent, publisher)

    def broken() -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(agent.sync, "tick", broken)
    attempt = agent.attempt()
    assert attempt.error is not None
    assert "ZeroDivisionError" in agent.reporter.named("tick.failed")[0]["message"]
    assert agent.live == PAGES


def test_what_changed_while_the_agent_was_down_is_healed_at_its_first_tick(
    agent: Agent, publisher: Publisher
) -> None:
    serve(agent, publisher)
    page = agent.settings.state.live / "index.html"
    page.chmod(0o644)
    page.write_bytes(b"defaced")
    agent.restart()
    agent.attempt()
    assert agent.live == PAGES


def test_plain_mode_polls_at_its_own_interval(tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    assert isinstance(agent.bucket, MemoryBucket)
    agent.bucket.place("site/current/index.html", b"bare")
    assert agent.attempt().next_in == 10.0  # until it may have settled
    agent.clock.advance(10)
    assert agent.attempt().next_in == 15.0
    assert agent.ticker.status().poll_interval == agent.settings.plain_interval
    agent.stop()


def test_one_slow_answer_is_no_clock_that_is_off(tmp_path: Path) -> None:
    clock = FakeClock()
    slow = [0.0]
    bucket = MemoryBucket(clock=lambda: clock.now() - slow[0])
    agent = Agent(tmp_path / "state", bucket, clock)
    serve(agent, Publisher(bucket))
    for slow[0] in (0.0, 8.0, 8.0, 0.0):
        agent.attempt()
    assert agent.reporter.named("clock.off") == []
    agent.stop()


def test_a_clock_that_is_off_by_about_the_tolerance_is_said_once_too(tmp_path: Path) -> None:
    clock = FakeClock()
    # S3 tells its time in whole seconds: the same difference looks like 1.5 to 2.5 s.
    bucket = MemoryBucket(clock=lambda: float(int(clock.now() - 1.5)))
    agent = Agent(tmp_path / "state", bucket, clock)
    serve(agent, Publisher(bucket))
    statuses = set()
    for _ in range(60):
        clock.advance(5.27)
        agent.attempt()
        statuses.add(agent.ticker.status().clock_offset)
    assert len(agent.reporter.named("clock.off")) <= 1
    assert len(statuses) <= 2
    agent.stop()


def test_a_leftover_that_cannot_be_removed_does_not_keep_the_agent_from_starting(
    agent: Agent, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(agent, publisher)
    (agent.settings.state.staging / "made-by-root").mkdir()

    def refuse(_path: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(store, "remove_tree", refuse)
    assert agent.restart() == ["staging/made-by-root (it stays: Operation not permitted)"]
    assert agent.attempt().error is None


def test_the_status_says_when_it_will_ask_again_and_that_is_no_news(
    agent: Agent, publisher: Publisher
) -> None:
    serve(agent, publisher)
    written = len(agent.reporter.statuses)
    agent.clock.advance(5)
    attempt = agent.attempt()
    assert agent.ticker.status().next_poll_at == format_time(agent.clock.now() + attempt.next_in)
    assert len(agent.reporter.statuses) == written


def test_the_status_names_what_is_live_and_what_could_go_live_by_their_promotions(
    agent: Agent, publisher: Publisher
) -> None:
    assert (agent.ticker.status().promotion_id, agent.ticker.status().ready) == ("", ())
    serve(agent, publisher)
    live = agent.ticker.status()
    publisher.publish("v2", {"index.html": b"2"})
    publisher.prepare("v2")
    agent.attempt()
    staged = agent.ticker.status()
    assert publisher.pointer is not None
    assert publisher.pointer.prepare is not None
    assert live.promotion_id == staged.promotion_id == publisher.pointer.active.promotion_id
    assert live.good
    assert [item.version for item in live.ready] == ["v1"]
    assert [(item.version, item.manifest_sha256, item.promotion_id) for item in staged.ready] == [
        (ref.version, ref.manifest_sha256, ref.promotion_id) for ref in publisher.pointer.named()
    ]


def test_the_status_names_what_could_not_be_staged_for_which_promotion(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    serve(agent, publisher)
    release = publisher.publish("v2", {"index.html": b"2"})
    bucket.corrupt(publisher.pack_key("v2"))
    publisher.prepare("v2")
    agent.attempt()
    assert publisher.pointer is not None
    assert publisher.pointer.prepare is not None
    (failed,) = agent.ticker.status().failed
    assert (failed.promotion_id, failed.release) == (publisher.pointer.prepare.promotion_id, release)
    assert failed.error == "DigestMismatch"
    publisher.change(prepare=None)
    agent.attempt()
    assert agent.ticker.status().failed == ()
