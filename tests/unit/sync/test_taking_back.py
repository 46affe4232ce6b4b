"""Whatever else goes wrong, a bad release is taken back for good, and a good one keeps its visitors."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from s3sync_agent.errors import HookVetoed, StoreUnavailable
from s3sync_agent.machine import State
from s3sync_agent.pointer import aborted
from s3sync_agent.webroot.state import State as Memory
from tests.agents import Agent
from tests.fakes import MemoryBucket
from tests.publisher import Publisher
from tests.releases import SITE
from tests.unit.sync.surroundings import BAD, GOOD, Asked, Site

WORSE = {"other.html": b"no index here either"}


def swaps(agent: Agent, release: str) -> int:
    return [fields["release"] for fields in agent.reporter.named("activate.done")].count(release)


class Killed(BaseException):
    """The process ends here."""


def at_save(agent: Agent, when: Callable[[Memory], bool], failure: BaseException) -> None:
    save = agent.webroot.save_state

    def failing(state: Memory) -> None:
        if when(state):
            raise failure
        save(state)

    agent.webroot.save_state = failing  # type: ignore[method-assign]


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def reboot(agent: Agent) -> Site:
    agent.settings.run.healthy.unlink(missing_ok=True)
    agent.restart()
    return Site(agent)


# ------------------------------------------------------------------- where to go back to


def test_an_instance_does_not_go_back_to_what_it_denies(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    publisher.publish("v2", BAD)
    publisher.promote("v2")
    agent.attempt()
    publisher.publish("v3", WORSE)
    publisher.promote("v3")  # its baseline is v2, which was meant for everyone
    agent.attempt()
    agent.attempt()
    assert agent.webroot.live() == served


# --------------------------------------------------------------------------- full disks


def test_a_full_disk_does_not_show_a_bad_release_again(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    publisher.publish("v2", BAD)
    publisher.promote("v2")
    at_save(agent, lambda _: site.asked > 2, full())  # from the probe after the swap on
    shown = []
    for _ in range(4):
        agent.attempt()
        shown.append(agent.webroot.live())
        agent.clock.advance(60)
    assert shown == [served] * 4
    assert agent.ticker.status().problem is not None


def test_a_full_disk_at_the_swap_hides_no_bad_release(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    bad = publisher.publish("v2", BAD)
    publisher.promote("v2")
    at_save(agent, lambda _: agent.webroot.live() == bad, full())
    agent.attempt()
    assert agent.webroot.live() == served
    assert agent.instance.state is State.FALLBACK


def test_what_a_full_disk_did_not_take_is_remembered_when_there_is_room(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    bad = publisher.publish("v2", BAD)
    publisher.promote("v2")
    room: list[bool] = []
    at_save(agent, lambda _: site.asked > 2 and not room, full())
    agent.attempt()
    room.append(True)
    agent.attempt()
    agent.restart()
    assert len(agent.instance.denied()) == 1
    assert swaps(agent, bad) == 1


# -------------------------------------------------------------------------------- crashes


def test_a_crash_while_taking_back_does_not_show_a_bad_release_again(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    bad = publisher.publish("v2", BAD)
    publisher.promote("v2")
    at_save(agent, lambda _: site.asked > 2 and agent.webroot.live() == served, Killed())
    with pytest.raises(Killed):
        agent.attempt()
    agent.restart()
    Site(agent)
    agent.attempt()
    assert agent.webroot.live() == served
    assert swaps(agent, bad) == 1


def test_what_a_crash_kept_from_being_remembered_is_not_taken_for_good(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    bad = publisher.publish("v2", BAD)
    publisher.promote("v2")
    at_save(agent, lambda _: agent.webroot.live() == bad, Killed())
    with pytest.raises(Killed):
        agent.attempt()
    agent.restart()
    assert not agent.ticker.status().good
    Site(agent).down = True
    publisher.publish("v3", GOOD)
    publisher.promote("v3")
    agent.attempt()
    assert agent.webroot.previous() != bad


def test_after_a_restart_it_is_said_how_long_a_bad_release_was_live(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    site.down = True
    publisher.publish("v2", BAD)
    publisher.promote("v2")
    agent.attempt()
    agent.restart()
    Site(agent)
    agent.clock.advance(7)
    agent.attempt()
    assert [fields["seconds"] for fields in agent.reporter.named("fallback.done")] == [7]


# --------------------------------------------------------------------------- what was asked


def test_an_answer_that_came_after_the_swap_is_none_from_before(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    publisher.publish("v2", BAD)
    publisher.promote("v2", activate_in=2)
    agent.attempt()
    agent.clock.advance(3)
    site.on_ask = agent.sync.activate_due  # the instant comes while the question is on its way
    agent.sync.look_before_due()
    site.on_ask = lambda: None
    agent.sync.prove_due()
    assert agent.webroot.live() == served
    assert len(agent.instance.denied()) == 1


def test_what_was_answered_rightly_hours_ago_does_not_condemn_a_release(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    release = publisher.publish("v2", GOOD)
    publisher.promote("v2")
    agent.attempt()
    agent.clock.advance(3600)
    site.broken = True  # nginx, and not the release
    publisher.promote("v2")
    agent.attempt()
    assert agent.webroot.live() == release
    assert agent.instance.denied() == frozenset()


def test_a_comparison_that_got_no_answer_is_made_again(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    site.down = True
    publisher.publish("v2", BAD)
    publisher.promote("v2")
    agent.attempt()
    site.down = False

    def busy() -> None:
        site.down = agent.webroot.live() == served

    site.on_ask = busy
    agent.attempt()
    site.on_ask, site.down = lambda: None, False
    agent.attempt()
    assert agent.webroot.live() == served


def test_while_two_releases_are_compared_hooks_are_not_asked_again(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    hooks = Asked(agent.instance)
    site.down = True
    publisher.publish("v2", BAD)
    publisher.promote("v2")
    agent.attempt()
    site.down = False
    ticks: list[threading.Thread] = []

    def the_worker_ticks() -> None:
        if agent.webroot.live() == served and not ticks:
            ticks.append(threading.Thread(target=agent.attempt, daemon=True))
            ticks[0].start()
            ticks[0].join(0.3)

    site.on_ask = the_worker_ticks
    agent.sync.prove_due()
    ticks[0].join(5)
    assert hooks.asked == ["v2"]


# ---------------------------------------------------------------------------------- health


def test_without_s3_a_rebooted_instance_gets_no_visitors_with_what_answers_wrongly(
    agent: Agent, publisher: Publisher, site: Site, served: str, bucket: MemoryBucket
) -> None:
    site.down = True
    bad = publisher.publish("v2", BAD)
    publisher.promote("v2")
    agent.attempt()
    reboot(agent)
    bucket.outage = StoreUnavailable("no route to S3")
    agent.attempt()
    assert agent.healthy == ""
    agent.clock.advance(61)
    agent.attempt()
    assert agent.healthy != bad
    agent.attempt()
    assert agent.webroot.live() == agent.healthy == served


def test_a_rebooted_instance_whose_pointer_is_lost_gets_its_visitors_after_a_minute(
    agent: Agent, publisher: Publisher, site: Site, served: str, bucket: MemoryBucket
) -> None:
    bucket.delete([SITE.pointer])
    reboot(agent)
    agent.attempt()
    assert agent.healthy == ""
    agent.clock.advance(61)
    agent.attempt()
    assert agent.healthy == served


def test_a_rebooted_instance_whose_pointer_is_refused_gets_its_visitors_after_a_minute(
    agent: Agent, publisher: Publisher, site: Site, served: str, bucket: MemoryBucket
) -> None:
    bucket.place(SITE.pointer, b"{}")
    reboot(agent)
    agent.attempt()
    assert agent.healthy == ""
    agent.clock.advance(61)
    agent.attempt()
    assert agent.healthy == served


# ----------------------------------------------------------------------------------- hooks


def test_hooks_are_told_though_the_balancer_could_not_be_at_first(
    agent: Agent, publisher: Publisher, site: Site, served: str
) -> None:
    hooks = Asked(agent.instance)
    publisher.publish("v2", GOOD)
    publisher.promote("v2")
    agent.settings.run.healthy.unlink()
    agent.settings.run.healthy.mkdir()
    agent.attempt()
    agent.settings.run.healthy.rmdir()
    agent.attempt()
    assert hooks.told == ["v2"]


def test_an_abort_does_not_wait_for_the_hooks_that_are_told(
    agent: Agent, publisher: Publisher, site: Site, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = Asked(agent.instance)
    publisher.publish("v2", GOOD)
    publisher.promote("v2")
    seen: list[str | None] = []

    def long(_subject: object, _reporter: object, beat: Callable[[], None]) -> None:
        assert publisher.pointer is not None
        publisher.write(aborted(publisher.pointer, now=publisher.now + 1))
        agent.clock.advance(6)
        beat()
        seen.append(agent.webroot.live())

    monkeypatch.setattr(hooks, "tell", long)
    agent.attempt()
    assert seen == [served]


# ----------------------------------------------------------------------------------- plain


def push(agent: Agent, files: dict[str, bytes]) -> None:
    assert isinstance(agent.bucket, MemoryBucket)
    for key in [key for key in agent.bucket.objects if key.startswith(SITE.current)]:
        del agent.bucket.objects[key]
    for path, body in files.items():
        agent.bucket.place(SITE.current + path, body, last_modified=agent.clock.now() - 3600)


def test_bare_files_that_are_denied_may_come_back_after_current_was_held(agent: Agent, site: Site) -> None:
    def settle(files: dict[str, bytes]) -> State:
        push(agent, files)
        for _ in range(3):
            agent.attempt()
            agent.clock.advance(30)
        return agent.instance.state

    settle({"index.html": b"one"})
    good = agent.webroot.live()
    site.on_ask = lambda: setattr(site, "broken", agent.webroot.live() != good)
    assert settle({"index.html": b"two"}) is State.FALLBACK
    assert settle({}) is State.HELD
    assert settle({"index.html": b"two"}) is State.FALLBACK
    assert agent.webroot.live() == good


def test_a_newcomer_that_denies_the_first_bare_files_waits(agent: Agent) -> None:
    hooks = Asked(agent.instance)
    hooks.raises = HookVetoed("hook pre-activate/10-check said no")
    push(agent, {"index.html": b"one"})
    for _ in range(3):
        assert agent.attempt().error is None
        agent.clock.advance(30)
    assert len(agent.instance.denied()) == 1
    agent.restart()
    assert agent.attempt().error is None
    assert agent.instance.state is State.WAITING


def test_bare_files_are_no_pointer_s_business_during_a_scrub(tmp_path: Path, publisher: Publisher) -> None:
    agent = Agent(tmp_path / "plain", publisher.bucket, source="plain")
    try:
        push(agent, {"index.html": b"one"})
        for _ in range(3):
            agent.attempt()
            agent.clock.advance(30)
        publisher.publish("v1")
        publisher.promote("v1")
        with agent.sync.lookout.during():
            agent.clock.advance(6)
            agent.instance.beat()
        assert agent.instance.accepted() is None
        assert agent.instance.memory.plain is not None
    finally:
        agent.stop()
