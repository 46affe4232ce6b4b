from __future__ import annotations

import re

import msgspec
import pytest

from s3sync_agent.counts import Counts
from s3sync_agent.machine import State
from s3sync_agent.metrics.table import METRICS, Metric, value
from tests.statuses import STATUS

BY_NAME = {metric.name: metric for metric in METRICS}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_name_follows_the_conventions_of_prometheus(metric: Metric) -> None:
    assert re.fullmatch(r"s3sync_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.name.removesuffix("_total").endswith(f"_{metric.unit}") or not metric.unit


def test_a_name_stands_once_in_each_place() -> None:
    assert len(BY_NAME) == len(METRICS)
    sent = [metric.cloudwatch for metric in METRICS if metric.cloudwatch]
    assert len(set(sent)) == len(sent)
    assert all(re.fullmatch(r"[A-Z][A-Za-z]+", name) for name in sent)


def test_every_number_that_is_counted_is_a_metric() -> None:
    for position, field in enumerate(Counts.__struct_fields__, start=1):
        changed = msgspec.structs.replace(
            STATUS,
            counts=msgspec.structs.replace(Counts(stages=1, activations=1), **{field: 1000 + position}),
        )
        assert [metric for metric in METRICS if value(metric, changed) == 1000 + position], field


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_samples_have_the_labels_that_the_table_names(metric: Metric) -> None:
    for labels, _ in metric.samples(STATUS):
        assert tuple(labels) == metric.labels


def test_exactly_one_state_is_the_one() -> None:
    states = {labels["state"]: number for labels, number in BY_NAME["s3sync_state"].samples(STATUS)}
    assert set(states) == {state.value for state in State}
    assert [state for state, number in states.items() if number] == [STATUS.state]


def test_what_is_not_known_is_left_out_and_not_zero() -> None:
    new = msgspec.structs.replace(STATUS, serving_since="", polled_at="", sequence=0, counts=Counts())
    silent = {metric.name for metric in METRICS if not metric.samples(new)}
    assert silent == {
        "s3sync_serving_since_timestamp_seconds",
        "s3sync_last_poll_timestamp_seconds",
        "s3sync_sequence",
        "s3sync_last_stage_seconds",
        "s3sync_last_activation_seconds",
        "s3sync_last_activation_late_seconds",
    }


def test_a_figure_about_the_last_time_names_the_counter_of_the_times() -> None:
    named = {metric.of for metric in METRICS if metric.of}
    assert {BY_NAME[name].kind for name in named} == {"counter"}
    assert {m.name for m in METRICS if m.cloudwatch and "_last_" in m.name} == {
        m.name for m in METRICS if m.of
    }
