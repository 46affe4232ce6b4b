from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from s3sync_agent.machine import TRANSITIONS, Decision, IllegalStep, State, Step, View, advance, decide
from s3sync_agent.pointer import Pointer, ReleaseRef, Rollout, format_time, rolled_back
from tests.releases import NOON, pointer_after, reference

A, B, C = (reference(version, promotion=number) for number, version in enumerate("ABC"))


def decision(
    pointer: Pointer,
    *on_disk: ReleaseRef,
    live: ReleaseRef | None = None,
    now: float = NOON,
    denied: Iterable[ReleaseRef] = (),
    broken: Iterable[ReleaseRef] = (),
    unready: Iterable[ReleaseRef] = (),
) -> Decision:
    return decide(
        View(
            pointer=pointer,
            live=live.id if live else None,
            complete=frozenset(ref.id for ref in on_disk),
            now=now,
            identity="i-1",
            ready=frozenset(ref.promotion_id for ref in pointer.named())
            - {ref.promotion_id for ref in unready},
            denied=frozenset(ref.promotion_id for ref in denied),
            broken=frozenset(ref.id for ref in broken),
        )
    )


def at_a_moment(pointer: Pointer, seconds: float) -> Pointer:
    active = msgspec.structs.replace(pointer.active, activate_at=format_time(seconds))
    return msgspec.structs.replace(pointer, active=active)


def test_a_newcomer_stages_the_active_release_first_and_then_the_baseline() -> None:
    first = decision(pointer_after("A", "B"))
    assert first.stage == (B, A)
    assert first.activate is None
    second = decision(pointer_after("A", "B"), B)
    assert second.activate == B
    assert second.stage == (A,)


def test_nothing_is_left_to_do_when_what_should_be_live_is() -> None:
    done = decision(pointer_after("A", "B"), A, B, live=B)
    assert done == Decision(want=B, stage=(), check=(), activate=None, due=None)


def test_a_deleted_tree_is_staged_again_although_the_pointer_did_not_change() -> None:
    assert decision(pointer_after("A", "B"), A, live=None).stage == (B,)


def test_before_its_instant_a_release_is_staged_and_the_baseline_served() -> None:
    pointer = at_a_moment(pointer_after("A", "B"), NOON + 10)
    early = decision(pointer, A, live=A)
    assert early.want == A
    assert early.stage == (pointer.active,)
    assert early.due is not None
    assert early.due.at == NOON + 10


def test_at_its_instant_it_is_activated() -> None:
    pointer = at_a_moment(pointer_after("A", "B"), NOON + 10)
    assert decision(pointer, A, B, live=A, now=NOON + 9.999).activate is None
    assert decision(pointer, A, B, live=A, now=NOON + 10).activate == pointer.active


def test_who_took_a_release_earlier_keeps_it_when_the_rollout_widens_at_an_instant() -> None:
    wider = msgspec.structs.replace(at_a_moment(pointer_after("A", "B"), NOON + 10), rollout=Rollout(100))
    joined = decision(wider, A, B, live=B)
    assert (joined.want, joined.activate, joined.due) == (wider.active, None, None)


def rollback_to_a() -> Pointer:
    left = pointer_after("A", "B")
    return at_a_moment(
        rolled_back(left, ref=reference("A", promotion=9), by="somebody", reason="", now=NOON), NOON + 10
    )


def test_before_the_instant_of_a_rollback_what_is_left_stays() -> None:
    waiting = decision(rollback_to_a(), A, B, live=B)
    assert (waiting.want, waiting.activate) == (None, None)
    assert waiting.due is not None
    assert decision(rollback_to_a(), A, B, live=B, now=NOON + 10).activate == rollback_to_a().active


def test_a_newcomer_never_serves_what_a_rollback_leaves() -> None:
    newcomer = decision(rollback_to_a(), A, live=None)
    assert newcomer.want is not None
    assert newcomer.activate is not None
    assert newcomer.activate.id == A.id


def test_a_newcomer_before_the_instant_stages_the_baseline_first() -> None:
    pointer = at_a_moment(pointer_after("A", "B"), NOON + 10)
    assert decision(pointer).stage == (A, pointer.active)


def test_the_first_release_of_all_waits_for_its_instant_too() -> None:
    waiting = decision(at_a_moment(pointer_after("A"), NOON + 10), A)
    assert (waiting.want, waiting.activate) == (None, None)


def test_outside_the_rollout_the_baseline_is_served_and_the_release_staged() -> None:
    pointer = msgspec.structs.replace(pointer_after("A", "B"), rollout=Rollout(0))
    outside = decision(pointer, A, live=A)
    assert (outside.want, outside.stage) == (A, (B,))


def test_what_is_prepared_is_staged_and_never_activated() -> None:
    pointer = msgspec.structs.replace(pointer_after("A"), prepare=C)
    assert decision(pointer, A, live=A).stage == (C,)
    assert decision(pointer, A, C, live=A).activate is None


def test_a_denied_promotion_gives_way_to_the_baseline() -> None:
    denied = decision(pointer_after("A", "B"), A, B, live=B, denied=[B])
    assert (denied.want, denied.activate) == (A, A)


def test_the_same_release_promoted_again_on_purpose_is_tried_again() -> None:
    again = reference("B", promotion=9)
    pointer = msgspec.structs.replace(pointer_after("A", "B"), active=again)
    assert decision(pointer, A, B, live=A, denied=[B]).activate == again


def test_where_active_and_baseline_are_both_denied_what_is_live_stays() -> None:
    nothing = decision(pointer_after("A", "B"), A, B, C, live=C, denied=[A, B])
    assert nothing == Decision(want=None, stage=(), check=(), activate=None, due=None)


def test_what_could_not_be_staged_in_this_tick_does_not_stop_the_rest() -> None:
    broken = decision(pointer_after("A", "B"), live=None, broken=[B])
    assert (broken.want, broken.stage, broken.activate) == (B, (A,), None)


def test_a_release_in_two_roles_is_staged_once() -> None:
    pointer = msgspec.structs.replace(pointer_after("A"), baseline=A, prepare=A)
    assert decision(pointer).stage == (A,)


# ----------------------------------------------------------------------------- states


@pytest.mark.parametrize(
    "steps",
    [
        [Step.WAIT, Step.STAGE, Step.ACTIVATE, Step.SERVE],
        [Step.STAGE, Step.STAGED, Step.ACTIVATE, Step.SERVE],
        [Step.STAGE, Step.STAGE, Step.ACTIVATE, Step.FALL_BACK, Step.SERVE],
        [Step.HOLD, Step.STAGE, Step.ACTIVATE, Step.SERVE, Step.HOLD],
    ],
)
def test_the_ways_a_day_can_go(steps: list[Step]) -> None:
    state = State.WAITING
    for step in steps:
        state = advance(state, step)
    assert state in (State.STEADY, State.HELD)


def test_who_has_served_nothing_has_nothing_to_fall_back_to() -> None:
    with pytest.raises(IllegalStep, match="'fall back' is not possible while waiting"):
        advance(State.WAITING, Step.FALL_BACK)


def test_who_waits_for_an_instant_holds_no_bare_files() -> None:
    with pytest.raises(IllegalStep, match="'hold' is not possible while staged"):
        advance(State.STAGED, Step.HOLD)


def test_what_is_on_disk_is_made_ready_before_it_is_activated() -> None:
    early = decision(pointer_after("A", "B"), A, B, live=A, unready=[B])
    assert (early.want, early.check, early.activate) == (B, (B,), None)


def test_what_is_prepared_is_made_ready_when_what_is_served_meanwhile_is_here() -> None:
    pointer = msgspec.structs.replace(pointer_after("A", "B"), prepare=C)
    assert decision(pointer, B, C, live=B, unready=[C]).check == ()
    assert decision(pointer, A, B, C, live=B, unready=[C]).check == (C,)


def test_the_table_names_every_state_and_reaches_every_state() -> None:
    assert set(TRANSITIONS) == set(State)
    assert {state for row in TRANSITIONS.values() for state in row.values()} == set(State)
