"""Instances come, go and die while a fleet moves, and no visitor notices."""

from __future__ import annotations

import signal

from s3sync_agent.rollout import takes_active
from tests.system.agent import held, live
from tests.system.metadata import instance_id
from tests.system.shop import Shop, ended_well, moved_as_one
from tests.system.site import COMMAND_SECONDS

FLEET_NOT_TAKEN = 6  # the exit code


def test_a_newcomer_during_a_promotion_shows_what_the_others_show(shop: Shop) -> None:
    shop.publish("v2")
    before = shop.active()
    with shop.audience("1, scale-out during a promotion") as seen:
        with held(shop.machines[0]):
            promotion = shop.begin("v2")
            (newcomer,) = shop.group.scale_out(1)
            seconds = shop.group.await_healthy()
            shop.until(lambda: bool(seen.served_by(newcomer.address)), "for its visitors")
            assert seen.served_by(newcomer.address) == {before}
        print(ended_well(promotion))
        shop.until(lambda: shop.all_show(seen, "v2"), "for visitors of all")
    print(f"a newcomer had visitors after {seconds:.1f} s")
    moved_as_one(seen, before, "v2", shop.instant())
    seen.assert_content()


def test_a_newcomer_during_a_rollout_shows_what_the_pointer_wants_of_it(shop: Shop) -> None:
    shop.publish("v3")
    with shop.audience("1, scale-out during a canary") as seen:
        promotion = shop.begin("v3", "--canary", "20%", "--bake", "10m")
        shop.until(lambda: shop.site.pointer().rollout is not None, "for the canary")
        (newcomer,) = shop.group.scale_out(1)
        shop.group.await_healthy()
        shop.until(lambda: bool(seen.served_by(newcomer.address)), "for its visitors")
        shown, pointer = seen.served_by(newcomer.address), shop.site.pointer()
        canary = takes_active(pointer, identity=shop.group.identity(newcomer), canary=False)
        assert shown == {"v3" if canary else "v2"}
        promotion.send_signal(signal.SIGTERM)  # as the job that runs it is cancelled
        promotion.communicate(timeout=COMMAND_SECONDS)
        print(shop.promote("v3"))
        shop.until(lambda: shop.all_show(seen, "v3"), "for visitors of all")
    assert seen.served_by(newcomer.address) == shown | {"v3"}
    seen.assert_content()


def test_who_is_terminated_during_a_promotion_is_not_waited_for(shop: Shop) -> None:
    shop.publish("v4")
    slow, leaving, *_ = shop.machines
    with shop.audience("6, scale-in during a promotion") as seen:
        with held(slow):
            promotion = shop.begin("v4")
            shop.group.terminate(leaving)
            assert shop.group.identity(leaving) not in shop.site.heartbeats()
        print(ended_well(promotion))
        shop.until(lambda: shop.all_show(seen, "v4"), "for visitors of all")
    assert "v4" not in seen.served_by(leaving.address)
    moved_as_one(seen, "v3", "v4", shop.instant())
    seen.assert_content()


def test_a_power_cut_during_the_activation_is_made_up_for(shop: Shop) -> None:
    shop.publish("v5")
    dark = shop.machines[-1]
    with shop.audience("6, a power cut during an activation") as seen:
        promotion = shop.begin("v5")
        shop.until(lambda: shop.site.pointer().active.version == "v5", "for the instant to be set")
        dark.power_cut()
        at = shop.instant()
        others = {machine.address for machine in shop.machines if machine is not dark}
        shop.until(lambda: others <= seen.first_seen("v5").keys(), "for visitors of the others")
        assert dark.address not in seen.first_seen("v5")
        dark.start()
        print(ended_well(promotion))
        shop.until(lambda: shop.all_show(seen, "v5"), "for visitors of all")
    assert live(dark) == "v5"
    moved_as_one(seen, "v4", "v5", at)
    seen.assert_content(but={dark.address})


def test_one_that_was_lost_blocks_until_it_is_ignored_and_is_replaced(shop: Shop) -> None:
    shop.publish("v6")
    lost = shop.machines[0]
    with shop.audience("6, an instance lost and replaced") as seen:
        shop.group.lose(lost)
        code, _, said = shop.site.attempt("promote", "v6", "--timeout", "4")
        assert code == FLEET_NOT_TAKEN, said
        assert instance_id(lost.address) in said
        print(said.strip())
        assert shop.serving() == {"v5"}
        (replacement,) = shop.group.scale_out(1)
        print(shop.promote("v6", "--ignore", instance_id(lost.address)))
        shop.group.await_healthy()
        shop.until(lambda: shop.all_show(seen, "v6"), "for visitors of all")
    assert seen.served_by(replacement.address) <= {"v5", "v6"}
    moved_as_one(seen, "v5", "v6", shop.instant())
    seen.assert_content(but={lost.address})
