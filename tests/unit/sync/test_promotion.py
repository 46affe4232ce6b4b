"""A promotion on one instance: prepared, activated at its instant, proved, and taken back when it is bad."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from s3sync_agent.errors import HookUnusable, HookVetoed
from s3sync_agent.hooks import Hooks
from s3sync_agent.machine import State
from s3sync_agent.pointer import ReleaseRef, aborted
from tests.agents import Agent
from tests.fakes import MemoryBucket
from tests.publisher import Publisher
from tests.releases import PAGES
from tests.unit.sync.surroundings import BAD, GOOD, Asked, Site


def names(refs: tuple[ReleaseRef, ...]) -> list[str]:
    return [ref.version for ref in refs]


# ------------------------------------------------------------------------------ proving


def test_a_release_is_good_only_after_the_probe(agent: Agent, publisher: Publisher, site: Site) -> None:
    site.down = True
    release = publisher.publish("v1")
    publisher.promote("v1")
    agent.attempt()
    assert (agent.webroot.live(), agent.healthy) == (release, "")
    assert agent.instance.state is State.ACTIVATING
    assert agent.instance.memory.good == ()
    assert agent.ticker.status().because == "the probe got no answer: /: connection refused"
    site.down = False
    agent.attempt()
    assert (agent.healthy, agent.instance.state) == (release, State.STEADY)


def test_a_bad_release_is_taken_back_and_denied(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    bad = publisher.publish("v2", BAD)
    publisher.promote("v2")
    agent.attempt()
    assert agent.webroot.live() == agent.healthy == served
    assert agent.instance.state is State.FALLBACK
    assert [fields["before"] for fields in agent.reporter.named("fallback.done")] == [bad]
    for _ in range(3):
        agent.attempt()
    assert agent.reporter.names.count("activate.done") == 2
    assert agent.instance.state is State.FALLBACK
    assert "denies" in agent.ticker.status().because


def test_a_denial_outlives_a_restart_and_the_next_promotion_is_tried(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    publisher.publish("v2", BAD)
    publisher.promote("v2")
    agent.attempt()
    agent.restart()
    Site(agent)
    agent.attempt()
    assert agent.webroot.live() == served
    release = publisher.publish("v3", GOOD)
    publisher.promote("v3")
    agent.attempt()
    assert (agent.webroot.live(), agent.instance.state) == (release, State.STEADY)


def test_fixing_forward_after_a_bad_release_never_shows_it_again(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    bad = publisher.publish("v2", BAD)
    publisher.promote("v2")
    agent.attempt()
    publisher.publish("v3", GOOD)
    pointer = publisher.pointer
    assert pointer is not None
    # The promotion of v3 makes v2, which was meant for everyone, the baseline until its instant.
    publisher.promote("v3", activate_in=10)
    agent.attempt()
    assert agent.webroot.live() == served
    agent.clock.advance(20)
    agent.attempt()
    assert agent.webroot.live() == publisher.ref("v3").id
    swaps = [fields["release"] for fields in agent.reporter.named("activate.done")]
    assert swaps.count(bad) == 1


def test_no_answer_is_never_a_release_s_fault(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    site.down = True
    release = publisher.publish("v2", GOOD)
    publisher.promote("v2")
    for _ in range(3):
        agent.attempt()
    assert agent.webroot.live() == release
    assert agent.instance.denied() == frozenset()
    assert agent.reporter.names.count("probe.failed") == 1


def test_what_was_wrong_before_is_not_the_new_release_s_fault(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    site.broken = True
    release = publisher.publish("v2", GOOD)
    publisher.promote("v2")
    agent.attempt()
    agent.attempt()
    assert agent.webroot.live() == release
    assert agent.instance.denied() == frozenset()
    assert agent.instance.state is State.ACTIVATING


def test_nobody_asked_before_so_the_release_is_compared_with_the_one_to_go_back_to(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    site.down = True
    publisher.publish("v2", BAD)
    publisher.promote("v2")
    agent.attempt()
    site.down = False
    agent.attempt()
    assert agent.webroot.live() == served
    assert len(agent.instance.denied()) == 1


def test_where_the_other_release_is_answered_wrongly_too_the_new_one_stays(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    site.down = True
    release = publisher.publish("v2", GOOD)
    publisher.promote("v2")
    agent.attempt()
    site.down, site.broken = False, True
    asked = site.asked
    for _ in range(3):
        agent.attempt()
    assert agent.webroot.live() == release
    assert agent.instance.denied() == frozenset()
    assert site.asked == asked + 1 + 3, "compared once, then only asked again"


def test_while_two_releases_are_compared_nobody_activates_the_one_in_doubt(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    site.down = True
    publisher.publish("v2", BAD)
    publisher.promote("v2")
    agent.attempt()
    site.down = False
    seen = []

    def another_thread() -> None:
        agent.sync.activate_due()
        seen.append(agent.webroot.live())

    site.on_ask = another_thread
    agent.attempt()
    assert seen[-1] == served


def test_a_newcomer_with_a_bad_active_release_serves_the_baseline(
    tmp_path: Path, agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    publisher.publish("v2", BAD)
    publisher.promote("v2")
    newcomer = Agent(tmp_path / "newcomer", agent.bucket, agent.clock, identity="i-2")
    Site(newcomer)
    try:
        newcomer.attempt()
        newcomer.attempt()
        assert newcomer.webroot.live() == newcomer.healthy == served
        assert len(newcomer.instance.denied()) == 1
    finally:
        newcomer.stop()


def test_a_rebooted_instance_may_have_visitors_only_after_the_probe(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    agent.settings.run.healthy.unlink()
    agent.restart()
    again = Site(agent)
    again.down = True
    agent.attempt()
    assert agent.healthy == ""
    again.down = False
    agent.attempt()
    assert agent.healthy == served


def test_only_a_good_release_becomes_the_previous_one(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    site.broken = True
    publisher.publish("v2", GOOD)
    publisher.promote("v2")
    agent.attempt()
    publisher.publish("v3", GOOD | {"x.html": b"x"})
    publisher.promote("v3")
    agent.attempt()
    assert agent.webroot.previous() == served


# ---------------------------------------------------------------------------- preparing


def test_what_is_prepared_is_staged_and_said_to_be_while_nothing_changes_for_visitors(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    publisher.publish("v2", GOOD)
    publisher.prepare("v2")
    agent.attempt()
    assert (agent.webroot.live(), agent.instance.state) == (served, State.STAGED)
    assert names(agent.sync.staged()) == ["v1", "v2"]


def test_a_release_that_lay_here_is_hashed_before_it_counts_as_staged(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    publisher.publish("v2", GOOD)
    publisher.promote("v2")
    agent.attempt()
    damaged = agent.settings.state.release(served) / "index.html"
    times = damaged.stat()
    damaged.parent.chmod(0o755)
    damaged.unlink()
    damaged.write_bytes(b"x" * len(PAGES["index.html"]))
    damaged.chmod(0o444)
    os.utime(damaged, ns=(times.st_atime_ns, times.st_mtime_ns))
    publisher.prepare("v1")
    agent.attempt()
    assert names(agent.sync.staged())[-1] == "v1"
    assert damaged.read_bytes() == PAGES["index.html"]
    assert agent.reporter.named("drift.found")[0]["path"] == "index.html"


def test_what_cannot_be_staged_is_a_failure_of_that_release(
    agent: Agent, publisher: Publisher, site: Site, served: str, bucket: MemoryBucket
) -> None:
    release = publisher.publish("v2", GOOD)
    bucket.delete([publisher.pack_key("v2")])
    publisher.prepare("v2")
    agent.attempt()
    assert list(agent.sync.failures()) == [release]
    assert names(agent.sync.staged()) == ["v1"]
    assert agent.webroot.live() == served


def test_a_rollback_during_a_long_download_does_not_wait_for_it(
    agent: Agent, publisher: Publisher, site: Site, served: str, bucket: MemoryBucket
) -> None:
    publisher.publish("v2", GOOD)
    publisher.promote("v2")
    agent.attempt()
    publisher.publish("v3", GOOD | {f"page-{n}.html": bytes([n]) * 100 for n in range(50)})
    publisher.prepare("v3")
    begun = agent.instance.beat

    def minutes_later() -> None:
        if agent.instance.state is State.STAGING and publisher.pointer and publisher.pointer.prepare:
            publisher.roll_back("v1")
            agent.clock.advance(6)
        begun()

    agent.instance.beat = minutes_later
    agent.attempt()
    assert agent.webroot.live() == served
    done = [fields["release"].partition("-")[0] for fields in agent.reporter.named("stage.done")]
    assert done == ["v1", "v2"]


def test_a_download_goes_on_when_the_pointer_only_says_the_same_again(
    agent: Agent, publisher: Publisher, site: Site, served: str, bucket: MemoryBucket
) -> None:
    release = publisher.publish("v2", GOOD)
    publisher.prepare("v2")
    begun = agent.instance.beat
    changed: list[bool] = []

    def frozen_meanwhile() -> None:
        if agent.instance.state is State.STAGING and not changed:
            changed.append(True)
            publisher.change()
            agent.clock.advance(6)
        begun()

    agent.instance.beat = frozen_meanwhile
    agent.attempt()
    assert changed
    assert [fields["release"] for fields in agent.reporter.named("stage.begin")][1:] == [release]
    assert agent.ticker.status().sequence == publisher.pointer.sequence if publisher.pointer else 0


# -------------------------------------------------------------------------------- hooks


@pytest.fixture
def hooks(agent: Agent, served: str) -> Asked:
    assert isinstance(agent.instance.hooks, Hooks)
    return Asked(agent.instance)


def test_hooks_are_asked_once_before_a_release_counts_as_staged_and_told_once_when_it_is_good(
    agent: Agent, publisher: Publisher, hooks: Asked
) -> None:
    publisher.publish("v2", GOOD)
    publisher.prepare("v2")
    agent.attempt()
    agent.attempt()
    assert (hooks.asked, hooks.told) == (["v2"], [])
    prepared = publisher.pointer.prepare if publisher.pointer else None
    publisher.change(active=prepared, prepare=None)
    agent.attempt()
    agent.attempt()
    assert (hooks.asked, hooks.told) == (["v2"], ["v2"])


def test_a_veto_is_a_denial_and_nothing_is_activated(
    agent: Agent, publisher: Publisher, hooks: Asked, served: str
) -> None:
    hooks.raises = HookVetoed("hook pre-activate/10-check said no")
    publisher.publish("v2", GOOD)
    publisher.promote("v2")
    agent.attempt()
    assert agent.webroot.live() == served
    assert agent.instance.state is State.FALLBACK
    agent.attempt()
    assert hooks.asked == ["v2"]


def test_no_hook_is_asked_about_what_was_good_here_when_a_bad_release_is_left_for_it(
    agent: Agent, publisher: Publisher, hooks: Asked, served: str
) -> None:
    publisher.publish("v2", GOOD)
    publisher.promote("v2")
    agent.attempt()
    agent.restart()
    again = Asked(agent.instance)
    again.raises = HookVetoed("hook pre-activate/10-check says no to everything by now")
    assert publisher.pointer is not None
    publisher.write(aborted(publisher.pointer, now=publisher.now + 1))
    agent.attempt()
    assert (agent.webroot.live(), again.asked) == (served, [])


def test_a_hook_that_cannot_be_asked_holds_the_release_up_and_is_asked_again(
    agent: Agent, publisher: Publisher, hooks: Asked, served: str
) -> None:
    hooks.raises = HookUnusable("hook pre-activate/10-check is not executable")
    release = publisher.publish("v2", GOOD)
    publisher.promote("v2")
    attempt = agent.attempt()
    assert isinstance(attempt.error, HookUnusable)
    assert agent.webroot.live() == served
    assert agent.instance.denied() == frozenset()
    hooks.raises = None
    agent.clock.advance(6)
    agent.attempt()
    assert agent.webroot.live() == release


# ------------------------------------------------------------------------------ instant


def due(agent: Agent) -> None:
    found = agent.sync.next_due()
    assert found is not None
    agent.sync.arm_due(found)


def test_everything_slow_has_happened_when_the_instant_comes(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    publisher.publish("v2", GOOD)
    publisher.promote("v2", activate_in=10)
    agent.attempt()
    due(agent)
    assert agent.webroot.live() == agent.webroot.previous() == served
    links = list(agent.settings.state.staging.iterdir())
    assert [link.readlink().name for link in links] == [publisher.ref("v2").id]
    agent.clock.advance(11)
    agent.sync.activate_due()
    assert agent.webroot.live() == publisher.ref("v2").id
    assert list(agent.settings.state.staging.iterdir()) == []


def test_an_instant_that_was_taken_back_leaves_nothing(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    publisher.publish("v2", GOOD)
    publisher.promote("v2", activate_in=10)
    agent.attempt()
    due(agent)
    release = publisher.publish("v3", GOOD | {"x.html": b"x"})
    publisher.promote("v3")
    agent.attempt()
    assert agent.webroot.live() == release
    assert list(agent.settings.state.staging.iterdir()) == []


def test_a_release_whose_hooks_were_not_asked_is_not_activated_at_its_instant(
    agent: Agent, publisher: Publisher, hooks: Asked, served: str
) -> None:
    hooks.raises = HookUnusable("hook pre-activate/10-check is not executable")
    publisher.publish("v2", GOOD)
    publisher.promote("v2", activate_in=10)
    agent.attempt()
    agent.clock.advance(11)
    agent.sync.activate_due()
    assert agent.webroot.live() == served


def test_a_canary_takes_what_is_rolled_out_to_nobody(
    tmp_path: Path, agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    release = publisher.publish("v2", GOOD)
    publisher.promote("v2")
    publisher.limit_to(0)
    canary = Agent(tmp_path / "canary", agent.bucket, agent.clock, identity="i-2", canary=True)
    try:
        canary.attempt()
        agent.attempt()
        assert (canary.webroot.live(), agent.webroot.live()) == (release, served)
    finally:
        canary.stop()


def test_an_abort_brings_the_baseline_back_at_once(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    publisher.publish("v2", GOOD)
    publisher.promote("v2")
    agent.attempt()
    assert publisher.pointer is not None
    publisher.write(aborted(publisher.pointer, now=publisher.now + 1))
    agent.attempt()
    assert agent.webroot.live() == served
    assert msgspec.json.decode(agent.settings.state.state.read_bytes())["serving_promotion"] == (
        "promotion-000002"
    )
