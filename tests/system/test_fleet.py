"""A fleet of three behind a balancer moves as one, while an audience checks every answer."""

from __future__ import annotations

import json
import signal
import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from s3sync_agent.heartbeat import MISSED
from s3sync_agent.pointer import ReleaseRef, parse_time
from tests.system import s3
from tests.system.agent import AGENT, COMMAND, STATE, events, held, live, main_pid, status
from tests.system.conftest import HEARTBEAT_INTERVAL, NEWER
from tests.system.machine import Machine
from tests.system.metadata import instance_id, zone
from tests.system.shop import Shop, ended_well, moved_as_one

POLL_INTERVAL = 0.2
FALLBACK_SECONDS = 1.0
FLEET_NOT_TAKEN = 6  # the exit code
# What every instance tells the fleet.
TOLD = {
    *("identity", "instance_id", "zone", "version", "state", "serving", "staged", "denied", "wanted"),
    *("sequence", "next_poll_at", "behind_seconds", "problem", "clock_offset", "activated_at"),
    *("stage_seconds", "activate_seconds"),
}


@pytest.fixture
def at_rest(shop: Shop) -> Shop:
    """Three healthy instances that serve one release: what one test did is no matter to the next."""
    shop.until(lambda: all_healthy(shop), "for good health")
    shop.until(lambda: len(serving(shop)) == 1, "for one release")
    return shop


def all_healthy(shop: Shop) -> bool:
    return {machine.address for machine in shop.machines} <= shop.group.balancer.healthy()


def serving(shop: Shop) -> set[str]:
    return {live(machine) for machine in shop.machines}


def current(shop: Shop) -> str:
    return shop.site.pointer().active.version


def instant(shop: Shop) -> float:
    """When everybody was meant to show what is active."""
    active = shop.site.pointer().active
    assert active.activate_at is not None
    return parse_time(active.activate_at)


# ------------------------------------------------------------------------------ audience


def test_the_audience_sees_what_does_not_belong_together(at_rest: Shop) -> None:
    """Somebody changes what is served; held, the agent does not put it right at once."""
    shop, meddled = at_rest, at_rest.machines[0]
    with shop.audience("a page and a script that somebody changed") as seen:
        with held(meddled):
            meddled.run(f"cd {STATE}/live && echo x | tee -a index.html assets/app.*")
            shop.until(lambda: len({each.path for each in seen.mixtures}) == 2, "for both to be seen")
        shop.until(
            lambda: "x" not in meddled.run(f"tail -qn 1 {STATE}/live/index.html").stdout, "to be healed"
        )
    assert {each.instance for each in seen.mixtures} == {meddled.address}


# ----------------------------------------------------------------------------- together


def test_a_promotion_is_shown_by_all_at_one_instant(at_rest: Shop) -> None:
    shop = at_rest
    shop.publish("together")
    before = current(shop)
    with shop.audience("1, a promotion") as seen:
        told = shop.promote("together")
        shop.until(lambda: shop.all_show(seen, "together"), "for visitors of all")
    skew = moved_as_one(seen, before, "together", instant(shop))
    print(f"{told}\nseen by visitors of all within {skew * 1000:.0f} ms")
    swaps = [parse_time(beat.activated_at) for beat in shop.site.heartbeats().values()]
    print(f"swapped within {(max(swaps) - min(swaps)) * 1000:.0f} ms of each other")
    seen.assert_content()


def test_fifty_promotions_and_rollbacks_in_a_row(at_rest: Shop) -> None:
    shop = at_rest
    names = [f"row-{number}" for number in range(5)]
    for name in names:
        shop.publish(name)
    before = current(shop)
    with shop.audience("2, 50 promotions and rollbacks") as seen:
        for number in range(25):
            name = names[number % len(names)]
            shop.promote("--no-mirror", name)
            assert serving(shop) == {name}
            shop.site.s3sync("rollback", "--no-mirror")
            assert serving(shop) == {before}
    seen.assert_content()
    late = [event["late"] for machine in shop.machines for event in events(machine, "activate.done")]
    usual, worst = statistics.median(late) * 1000, max(late) * 1000
    print(f"{len(late)} activations, late by {usual:.1f} ms, at most {worst:.0f} ms")


# ------------------------------------------------------------------- nobody before all can


def test_one_that_cannot_stage_keeps_all_from_showing_it(at_rest: Shop) -> None:
    shop = at_rest
    shop.publish("too-big", ballast=24 << 20)
    before, full = current(shop), shop.machines[1]
    available = "$(($(df --output=avail --block-size=1 /var | tail -n 1) - (8 << 20)))"
    full.run(f"fallocate --length {available} /var/filler")
    try:
        with shop.audience("3, a full disk") as seen:
            code, _, said = shop.site.attempt("promote", "too-big")
    finally:
        full.run("rm /var/filler")
    assert code == FLEET_NOT_TAKEN, said
    assert "DiskFull" in said
    print(said.strip())
    assert serving(shop) == {before}
    assert shop.site.pointer().prepare is None
    assert seen.first_seen("too-big") == {}
    seen.assert_content()


def test_a_promotion_that_was_killed_between_its_phases_is_finished_by_the_next(at_rest: Shop) -> None:
    shop = at_rest
    shop.publish("killed")
    before = current(shop)
    with shop.audience("a promotion killed between its phases") as seen:
        with held(shop.machines[0]):
            promotion = shop.begin("killed")
            prepared = shop.site.pointer().prepare
            assert prepared is not None
            promotion.send_signal(signal.SIGKILL)
            promotion.communicate(timeout=10)
        shop.promote("killed")
        shop.until(lambda: shop.all_show(seen, "killed"), "for visitors of all")
    assert shop.site.pointer().active.promotion_id == prepared.promotion_id
    moved_as_one(seen, before, "killed", instant(shop))
    seen.assert_content()


def test_a_fleet_is_listed_and_a_silent_instance_told_apart(at_rest: Shop) -> None:
    shop = at_rest
    silent, *others = (shop.group.identity(machine) for machine in shop.machines)
    with held(shop.machines[0]):
        limit = MISSED * HEARTBEAT_INTERVAL
        seconds = shop.until(lambda: bool(listed(shop)[silent]["stale"]), "for silence", seconds=2 * limit)
        fleet = listed(shop)
    print(f"\nstale {seconds:.1f} s after its last word, with {HEARTBEAT_INTERVAL} s between two heartbeats")
    assert seconds > limit - HEARTBEAT_INTERVAL
    assert not any(fleet[other]["stale"] for other in others)
    shop.until(lambda: not listed(shop)[silent]["stale"], "for its next word")
    assert fleet.keys() == {silent, *others}
    for machine in shop.machines:
        told = fleet[shop.group.identity(machine)]
        assert told.keys() >= TOLD
        assert (told["instance_id"], told["zone"]) == (instance_id(machine.address), zone(machine.address))
        assert told["serving"].startswith(f"{live(machine)}-")


def listed(shop: Shop) -> dict[str, dict[str, Any]]:
    """What `s3sync fleet --json` says of each instance."""
    found = json.loads(shop.site.s3sync("fleet", "--json"))
    return {each["identity"]: each for each in found}


# ------------------------------------------------------------------------- bad releases


def test_a_bad_release_takes_itself_back_and_does_not_come_again(at_rest: Shop) -> None:
    shop = at_rest
    shop.publish("bad", without=("about/index.html",))
    shop.publish("mended")
    before = shop.site.pointer().active
    with shop.audience("4, a bad release") as seen:
        code, _, said = shop.site.attempt("promote", "bad")
        shop.until(lambda: serving(shop) == {before.version}, "for the release before")
    assert code == FLEET_NOT_TAKEN, said
    print(said.strip())
    assert is_back_at(shop, before)
    swapped = [parse_time(activations(machine, "bad")[-1]["at"]) for machine in shop.machines]
    victims = [each for each in seen.not_200 if each.began >= min(swapped)]
    assert seen.not_200 == victims
    assert {(each.path, each.status) for each in victims} <= {("/about/", "404")}
    last = max(seen.last_seen("bad").values(), default=min(swapped))
    print(f"{len(victims)} pages were not there, in {last - min(swapped):.2f} s")
    assert last - min(swapped) < FALLBACK_SECONDS
    assert (seen.mixtures, seen.unhealthy) == ([], set())
    with shop.audience("4, the release that mends it") as seen:
        shop.promote("mended")
        shop.until(lambda: shop.all_show(seen, "mended"), "for visitors of all")
    assert seen.first_seen("bad") == {}
    seen.assert_content()


def is_back_at(shop: Shop, before: ReleaseRef) -> bool:
    """The same promotion as before, and not a new one."""
    active = shop.site.pointer().active
    return (active.version, active.promotion_id) == (before.version, before.promotion_id)


def activations(machine: Machine, version: str) -> list[dict[str, str]]:
    return [each for each in events(machine, "activate.done") if each["release"].startswith(f"{version}-")]


def test_an_nginx_that_does_not_answer_is_no_bad_release(at_rest: Shop) -> None:
    shop = at_rest
    shop.publish("unasked")

    def nobody_answered() -> bool:
        return all(probed(machine, "unasked") for machine in shop.machines)

    for machine in shop.machines:
        machine.run("systemctl stop nginx")
    try:
        promotion = shop.begin("unasked")
        shop.until(nobody_answered, "for the probes")
        verdicts = {each["verdict"] for machine in shop.machines for each in probed(machine, "unasked")}
        assert verdicts == {"unanswered"}
        assert serving(shop) == {"unasked"}
    finally:
        for machine in shop.machines:
            machine.run("systemctl start nginx")
    print(ended_well(promotion))
    assert serving(shop) == {"unasked"}


def probed(machine: Machine, version: str) -> list[dict[str, Any]]:
    return [each for each in events(machine, "probe.failed") if each["release"].startswith(f"{version}-")]


# ------------------------------------------------------------------------------ canaries


def test_a_canary_that_sings_is_followed_by_all(at_rest: Shop) -> None:
    shop = at_rest
    shop.publish("canary")
    with shop.audience("5, a canary") as seen:
        print(shop.promote("canary", "--canary", "20%", "--bake", "3s"))
        shop.until(lambda: shop.all_show(seen, "canary"), "for visitors of all")
    first = sorted(seen.first_seen("canary").values())
    assert first[-1] - first[0] > 2.0, "somebody was ahead while it was baked"
    assert serving(shop) == {"canary"}
    seen.assert_content()


def test_a_canary_that_dies_is_followed_by_nobody(at_rest: Shop) -> None:
    shop = at_rest
    shop.publish("poison", without=("about/index.html",))
    before = shop.site.pointer().active
    with shop.audience("5, a bad canary") as seen:
        code, _, said = shop.site.attempt("promote", "poison", "--canary", "20%", "--bake", "3s")
        shop.until(lambda: serving(shop) == {before.version}, "for the release before")
    assert code == FLEET_NOT_TAKEN, said
    print(said.strip())
    assert is_back_at(shop, before)
    canaries = {machine.address for machine in shop.machines if activations(machine, "poison")}
    print(f"seen by {len(seen.not_200)} visitors of {len(canaries)} of {len(shop.machines)} instances")
    assert 1 <= len(canaries) < len(shop.machines)
    assert {each.instance for each in seen.not_200} <= canaries
    assert {(each.path, each.status) for each in seen.not_200} <= {("/about/", "404")}
    assert (seen.mixtures, seen.unhealthy) == ([], set())


# ------------------------------------------------------------------------------ S3 and IAM


def test_without_s3_the_site_is_up_and_nobody_is_unhealthy(at_rest: Shop) -> None:
    shop = at_rest
    shop.publish("after-the-outage")
    before = current(shop)
    with shop.audience("7, no instance reaches S3") as seen:
        with ExitStack() as outage:
            for machine in shop.machines:
                outage.enter_context(machine.cable.without(s3.PORT))
            stale = shop.until(lambda: all_stale(shop), "for all to notice", seconds=60)
            code, _, said = shop.site.attempt("promote", "after-the-outage", "--timeout", "3")
            assert (code, serving(shop)) == (FLEET_NOT_TAKEN, {before}), said
        back = shop.until(lambda: not any_stale(shop), "for all to hear of S3 again", seconds=60)
        told = shop.promote("after-the-outage")
        shop.until(lambda: shop.all_show(seen, "after-the-outage"), "for visitors of all")
    print(f"all stale after {stale:.1f} s, none {back:.1f} s after its return\n{told}")
    moved_as_one(seen, before, "after-the-outage", instant(shop))
    seen.assert_content()


def all_stale(shop: Shop) -> bool:
    return all(status(machine)["stale"] for machine in shop.machines)


def any_stale(shop: Shop) -> bool:
    return any(status(machine)["stale"] for machine in shop.machines)


def test_who_may_not_write_heartbeats_blocks_a_promotion(at_rest: Shop, s3_server: s3.S3) -> None:
    shop = at_rest
    shop.publish("unheard")
    before = current(shop)
    with shop.audience("7, heartbeat rights lost") as seen:
        with s3_server.no_heartbeats():
            code, _, said = shop.site.attempt("promote", "unheard", "--timeout", "4")
            assert serving(shop) == {before}
        assert code == FLEET_NOT_TAKEN, said
        print(said.strip())
        assert all(events(machine, "heartbeat.failed") for machine in shop.machines)
        shop.promote("unheard")
        shop.until(lambda: shop.all_show(seen, "unheard"), "for visitors of all")
    moved_as_one(seen, before, "unheard", instant(shop))
    seen.assert_content()


# ------------------------------------------------------------------------------ upgrades


def test_agents_are_upgraded_one_by_one_while_a_promotion_waits(at_rest: Shop, newer: Path) -> None:
    shop = at_rest
    shop.publish("through-an-upgrade")
    before = current(shop)
    for machine in shop.machines:
        (machine.root / "root" / newer.name).write_bytes(newer.read_bytes())
    with shop.audience("8, upgrades during a promotion") as seen:
        last = shop.machines[-1]
        with held(last):
            promotion = shop.begin("through-an-upgrade")
            for machine in shop.machines[:-1]:
                upgrade(machine, newer)
        upgrade(last, newer)
        told = ended_well(promotion)
        shop.until(lambda: shop.all_show(seen, "through-an-upgrade"), "for visitors of all")
    print(told)
    moved_as_one(seen, before, "through-an-upgrade", instant(shop))
    assert {beat.version for beat in shop.site.heartbeats().values()} == {NEWER}
    seen.assert_content()


def upgrade(machine: Machine, bundle: Path) -> None:
    before = main_pid(machine)
    machine.run(f"python3 /root/{bundle.name} && {COMMAND} setup")
    machine.wait_until(lambda: status(machine)["version"] == NEWER, "for the newer agent")
    assert main_pid(machine) != before
    assert machine.unit(AGENT, "ActiveState") == "active"
