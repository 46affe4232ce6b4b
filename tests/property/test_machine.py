from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3sync_agent.machine import TRANSITIONS, IllegalStep, State, Step, View, advance, decide
from s3sync_agent.pointer import Pointer, Rollout, parse_time
from s3sync_agent.rollout import share_of, takes_active
from tests.property.strategies import pointers
from tests.releases import NOON


@st.composite
def views(draw: st.DrawFn) -> View:
    pointer: Pointer = draw(pointers)
    named = sorted({ref.id for ref in pointer.named()} | {"other-0123456789ab"})
    complete = draw(st.frozensets(st.sampled_from(named)))
    return View(
        pointer=pointer,
        live=draw(st.sampled_from([None, *sorted(complete)])),
        complete=complete,
        now=NOON + draw(st.integers(-120, 120)),
        identity=draw(st.sampled_from(["i-1", "i-2", "i-3"])),
        ready=draw(st.frozensets(st.sampled_from([f"promotion-{number}" for number in range(6)]))),
        canary=draw(st.booleans()),
        denied=draw(st.frozensets(st.sampled_from([f"promotion-{number}" for number in range(6)]))),
        broken=draw(st.frozensets(st.sampled_from(named))),
    )


@given(views())
def test_only_a_complete_release_that_is_wanted_and_not_live_is_activated(view: View) -> None:
    decision = decide(view)
    if decision.activate is not None:
        substitute = view.live is None and decision.want is not None and decision.want.id in view.broken
        assert decision.activate == (view.pointer.baseline if substitute else decision.want)
        assert decision.activate.id in view.complete
        assert decision.activate.id != view.live


@given(views())
def test_what_is_wanted_and_on_disk_is_live_or_activated(view: View) -> None:
    decision = decide(view)
    want = decision.want
    if want is not None and want.id in view.complete - view.broken and want.promotion_id in view.ready:
        assert want.id == view.live or decision.activate == want


@given(views())
def test_a_denied_promotion_is_neither_wanted_nor_staged_nor_due(view: View) -> None:
    decision = decide(view)
    named = [ref for ref in (decision.want, decision.due and decision.due.ref, *decision.stage) if ref]
    assert view.denied.isdisjoint(ref.promotion_id for ref in named)


@given(views())
def test_before_its_time_or_outside_the_rollout_the_baseline_is_wanted(view: View) -> None:
    active = view.pointer.active
    early = active.activate_at is not None and view.now < parse_time(active.activate_at)
    meant = takes_active(view.pointer, identity=view.identity, canary=view.canary)
    want = decide(view).want
    joined = meant and view.live == active.id
    if (early and not joined) or not meant or active.promotion_id in view.denied:
        assert want in (None, view.pointer.baseline)
    else:
        assert want == active


@given(views())
def test_who_serves_the_active_release_keeps_it_whatever_its_instant(view: View) -> None:
    serving = replace(view, live=view.pointer.active.id)
    if view.pointer.active.promotion_id not in view.denied and takes_active(
        view.pointer, identity=view.identity, canary=view.canary
    ):
        decision = decide(serving)
        assert (decision.want, decision.activate, decision.due) == (view.pointer.active, None, None)


@given(views())
def test_an_activation_lies_ahead_exactly_when_it_will_be_wanted_at_its_time(view: View) -> None:
    due = decide(view).due
    active = view.pointer.active
    if due is None:
        assert active.activate_at is None or decide(replace(view, now=NOON + 200)).want == decide(view).want
    else:
        assert due.at > view.now
        assert decide(replace(view, now=due.at)).want == due.ref == active


@given(views())
def test_staging_has_no_duplicates_and_nothing_that_is_complete_or_broken(view: View) -> None:
    stage = [ref.id for ref in decide(view).stage]
    assert len(stage) == len(set(stage))
    assert not view.complete & set(stage)
    assert not view.broken & set(stage)


@given(views())
def test_what_is_wanted_now_is_staged_first(view: View) -> None:
    decision = decide(view)
    want = decision.want
    if want is not None and want.id not in view.complete | view.broken:
        assert decision.stage[0] == want


@given(views())
def test_everything_the_pointer_names_is_staged_unless_denied_or_broken(view: View) -> None:
    staged = {ref.id for ref in decide(view).stage} | view.complete | view.broken
    allowed = {ref.id for ref in view.pointer.named() if ref.promotion_id not in view.denied}
    assert allowed <= staged


@given(views())
def test_what_is_not_ready_is_not_activated_but_made_ready(view: View) -> None:
    decision = decide(view)
    assert view.ready.isdisjoint(ref.promotion_id for ref in decision.check)
    assert {ref.id for ref in decision.check} <= view.complete - view.broken
    if decision.activate is not None:
        assert decision.activate.promotion_id in view.ready
    elif decision.want is not None and decision.want.id in view.complete - view.broken - {view.live}:
        assert decision.want.promotion_id in {ref.promotion_id for ref in decision.check}


@given(views())
def test_what_is_prepared_is_made_ready_only_when_what_is_served_meanwhile_is_here(view: View) -> None:
    prepare, decision = view.pointer.prepare, decide(view)
    others = [ref for ref in decision.stage if ref in (view.pointer.active, view.pointer.baseline)]
    if prepare is not None and prepare in decision.check and others:
        assert prepare in (decision.want, decision.due and decision.due.ref)


@given(views())
def test_doing_what_was_decided_leaves_nothing_to_decide(view: View) -> None:
    done = replace(view, complete=view.complete | {ref.id for ref in decide(view).stage})
    while decide(done).check:
        done = replace(done, ready=done.ready | {ref.promotion_id for ref in decide(done).check})
    activate = decide(done).activate
    done = replace(done, live=activate.id if activate else done.live)
    decision = decide(done)
    assert decision.stage == ()
    assert decision.activate is None
    before = decide(view).want
    # Who has taken a rollback's release as a newcomer has taken the rollback.
    assert (decision.want and decision.want.id) == (before and before.id)


@given(views())
def test_a_decision_depends_on_nothing_but_the_view(view: View) -> None:
    assert decide(view) == decide(replace(view))


# ---------------------------------------------------------------------------- rollout


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_share_is_stable_and_within_0_and_100(identity: str, promotion_id: str) -> None:
    assert 0 <= share_of(identity, promotion_id) < 100
    assert share_of(identity, promotion_id) == share_of(identity, promotion_id)


@given(pointers, st.text(max_size=20), st.booleans())
def test_who_takes_a_release_at_some_percent_takes_it_at_every_higher_one(
    pointer: Pointer, identity: str, canary: bool
) -> None:
    took = False
    for percent in range(0, 101, 5):
        wider = replace_percent(pointer, percent)
        takes = takes_active(wider, identity=identity, canary=canary)
        assert takes or not took
        took = takes
    assert took


def replace_percent(pointer: Pointer, percent: int) -> Pointer:
    return msgspec.structs.replace(pointer, rollout=Rollout(percent))


# ----------------------------------------------------------------------------- states


@given(st.sampled_from(State), st.sampled_from(Step))
def test_every_step_leads_to_a_state_or_is_refused_by_name(state: State, step: Step) -> None:
    if step in TRANSITIONS[state]:
        assert advance(state, step) in State
    else:
        with pytest.raises(IllegalStep, match=f"{step.value}.*{state.value}"):
            advance(state, step)
