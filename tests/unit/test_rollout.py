from __future__ import annotations

import msgspec
import pytest

from s3sync_agent.pointer import Pointer, Rollout
from s3sync_agent.rollout import share_of, takes_active
from tests.releases import pointer_after


def rolled_out(percent: int | None) -> Pointer:
    rollout = None if percent is None else Rollout(percent)
    return msgspec.structs.replace(pointer_after("A", "B"), rollout=rollout)


@pytest.mark.parametrize("percent", [1, 10, 50, 90])
def test_about_percent_of_a_large_fleet_takes_a_release(percent: int) -> None:
    pointer = rolled_out(percent)
    took = sum(takes_active(pointer, identity=f"i-{number:08x}", canary=False) for number in range(10_000))
    assert abs(took / 100 - percent) < 2


def test_another_promotion_chooses_other_instances() -> None:
    chosen = [
        {number for number in range(1000) if share_of(f"i-{number}", promotion) < 10}
        for promotion in ("promotion-1", "promotion-2")
    ]
    assert len(chosen[0] & chosen[1]) < len(chosen[0]) / 2


def test_an_instance_stands_where_it_stands_for_ever() -> None:
    assert share_of("i-1", "promotion-1") == pytest.approx(26.8049, abs=1e-3)


def test_everyone_takes_a_release_without_rollout_or_at_100_percent() -> None:
    assert takes_active(rolled_out(None), identity="i-1", canary=False)
    assert takes_active(rolled_out(100), identity="i-1", canary=False)


def test_at_0_percent_only_canaries_do() -> None:
    assert not takes_active(rolled_out(0), identity="i-1", canary=False)
    assert takes_active(rolled_out(0), identity="i-1", canary=True)
