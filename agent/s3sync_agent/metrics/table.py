"""Every metric: name, kind, unit, meaning, and how it is read from the status.

Prometheus, CloudWatch and docs/metrics.md are made from this table. The names are stable: people alarm on
them. No value is anything but what `status.json` says, so nothing secret can be in them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from s3sync_agent.counts import Counts
from s3sync_agent.machine import State
from s3sync_agent.pointer import parse_time
from s3sync_agent.report import Status

PREFIX = "s3sync_"

Kind = Literal["counter", "gauge"]
Unit = Literal["", "seconds", "bytes"]
Sample = tuple[dict[str, str], float]
# Asks for the status as it is at this moment; may raise OSError. Any thread may ask.
Read = Callable[[], Status]


@dataclass(frozen=True, slots=True)
class Metric:
    """`samples` reads it from a status: pairs of labels and value, none while it is unknown.

    `cloudwatch` is its name there; "" is not sent. A figure about the last time something happened is sent
    only when that has happened again, which the counter named by `of` tells.
    """

    name: str
    kind: Kind
    unit: Unit
    doc: str
    samples: Callable[[Status], list[Sample]]
    labels: tuple[str, ...] = ()
    cloudwatch: str = ""
    of: str = ""


def value(metric: Metric, status: Status) -> float | None:
    """The one value of a metric whose labels, if it has any, only tell more about it."""
    samples = metric.samples(status)
    return samples[0][1] if samples else None


# -------------------------------------------------------------------------------- reading


def _number(read: Callable[[Status], float | None]) -> Callable[[Status], list[Sample]]:
    def samples(status: Status) -> list[Sample]:
        found = read(status)
        return [] if found is None else [({}, float(found))]

    return samples


def _count(read: Callable[[Counts], float]) -> Callable[[Status], list[Sample]]:
    return _number(lambda status: read(status.counts))


def _moment(text: str) -> float | None:
    return parse_time(text) if text else None


def _info(status: Status) -> list[Sample]:
    labels = {
        "version": status.version,
        "site": status.site,
        "identity": status.identity,
        "source": status.source,
    }
    return [(labels, 1.0)]


def _states(status: Status) -> list[Sample]:
    return [({"state": state.value}, float(state.value == status.state)) for state in State]


# ------------------------------------------------------------------------------ the table

METRICS: tuple[Metric, ...] = (
    Metric(
        PREFIX + "info",
        "gauge",
        "",
        "Always 1. In CloudWatch the number of its samples is the number of agents.",
        _info,
        labels=("version", "site", "identity", "source"),
        cloudwatch="Alive",
    ),
    Metric(
        PREFIX + "release_info",
        "gauge",
        "",
        "Always 1. What is served and what is wanted; empty for none.",
        lambda status: [({"serving": status.serving, "wanted": status.wanted}, 1.0)],
        labels=("serving", "wanted"),
    ),
    Metric(
        PREFIX + "state",
        "gauge",
        "",
        "1 for the state the agent is in, 0 for the others.",
        _states,
        labels=("state",),
    ),
    Metric(
        PREFIX + "healthy",
        "gauge",
        "",
        "1 while the balancer is told to send requests.",
        _number(lambda status: status.healthy),
        cloudwatch="Healthy",
    ),
    Metric(
        PREFIX + "stale",
        "gauge",
        "",
        "1 when S3 has not answered for several polls.",
        _number(lambda status: status.stale),
        cloudwatch="Stale",
    ),
    Metric(
        PREFIX + "behind_seconds",
        "gauge",
        "seconds",
        "Since when something else is wanted than is served; 0 when they are the same.",
        _number(lambda status: status.behind_seconds),
        cloudwatch="BehindSeconds",
    ),
    Metric(
        PREFIX + "serving_since_timestamp_seconds",
        "gauge",
        "seconds",
        "When the release that is served went live.",
        _number(lambda status: _moment(status.serving_since)),
    ),
    Metric(
        PREFIX + "last_poll_timestamp_seconds",
        "gauge",
        "seconds",
        "When S3 answered last.",
        _number(lambda status: _moment(status.polled_at)),
    ),
    Metric(
        PREFIX + "sequence",
        "gauge",
        "",
        "The sequence of the accepted pointer. Instances that differ for long do not agree.",
        _number(lambda status: status.sequence or None),
        cloudwatch="Sequence",
    ),
    Metric(
        PREFIX + "clock_offset_seconds",
        "gauge",
        "seconds",
        "S3's clock less this machine's; 0 below 2 s.",
        _number(lambda status: status.clock_offset),
        cloudwatch="ClockOffsetSeconds",
    ),
    Metric(
        PREFIX + "polls_total",
        "counter",
        "",
        "Polls that have ended, well or badly.",
        _count(lambda counts: counts.polls),
        cloudwatch="Polls",
    ),
    Metric(
        PREFIX + "poll_failures_total",
        "counter",
        "",
        "Polls that failed, also those that `poll.failed` does not repeat.",
        _count(lambda counts: counts.poll_failures),
        cloudwatch="PollFailures",
    ),
    Metric(
        PREFIX + "stages_total",
        "counter",
        "",
        "Releases brought onto the disk (`stage.done`).",
        _count(lambda counts: counts.stages),
        cloudwatch="Stages",
    ),
    Metric(
        PREFIX + "stage_failures_total",
        "counter",
        "",
        "Releases that could not be (`stage.failed`); a retry that fails in the same way is not another.",
        _count(lambda counts: counts.stage_failures),
        cloudwatch="StageFailures",
    ),
    Metric(
        PREFIX + "staged_bytes_total",
        "counter",
        "bytes",
        "What was downloaded for them.",
        _count(lambda counts: counts.staged_bytes),
        cloudwatch="Bytes",
    ),
    Metric(
        PREFIX + "last_stage_seconds",
        "gauge",
        "seconds",
        "How long the last of them took.",
        _number(lambda status: status.counts.last_stage_seconds if status.counts.stages else None),
        cloudwatch="StageSeconds",
        of=PREFIX + "stages_total",
    ),
    Metric(
        PREFIX + "activations_total",
        "counter",
        "",
        "Releases that went live (`activate.done`).",
        _count(lambda counts: counts.activations),
        cloudwatch="Activations",
    ),
    Metric(
        PREFIX + "activation_failures_total",
        "counter",
        "",
        "Swaps that failed at their instant (`activate.failed`).",
        _count(lambda counts: counts.activation_failures),
        cloudwatch="ActivationFailures",
    ),
    Metric(
        PREFIX + "last_activation_seconds",
        "gauge",
        "seconds",
        "How long the last swap took.",
        _number(lambda status: status.counts.last_activation_seconds if status.counts.activations else None),
        cloudwatch="ActivationSeconds",
        of=PREFIX + "activations_total",
    ),
    Metric(
        PREFIX + "last_activation_late_seconds",
        "gauge",
        "seconds",
        "How long after its instant the last swap was done.",
        _number(lambda status: status.counts.last_activation_late if status.counts.activations else None),
        cloudwatch="ActivationLateSeconds",
        of=PREFIX + "activations_total",
    ),
    Metric(
        PREFIX + "denials_total",
        "counter",
        "",
        "Promotions that this instance does not take (`promotion.denied`).",
        _count(lambda counts: counts.denials),
        cloudwatch="Denials",
    ),
    Metric(
        PREFIX + "fallbacks_total",
        "counter",
        "",
        "Releases that were taken back because the probe went wrong (`fallback.done`).",
        _count(lambda counts: counts.fallbacks),
        cloudwatch="Fallbacks",
    ),
    Metric(
        PREFIX + "probe_failures_total",
        "counter",
        "",
        "Times that nginx began to answer the probe wrongly, or not at all (`probe.failed`).",
        _count(lambda counts: counts.probe_failures),
        cloudwatch="ProbeFailures",
    ),
    Metric(
        PREFIX + "heartbeat_failures_total",
        "counter",
        "",
        "Times that writing the heartbeat began to fail (`heartbeat.failed`).",
        _count(lambda counts: counts.heartbeat_failures),
        cloudwatch="HeartbeatFailures",
    ),
    Metric(
        PREFIX + "drift_found_total",
        "counter",
        "",
        "Served files that were not what their manifest says (`drift.found`).",
        _count(lambda counts: counts.drift_found),
        cloudwatch="DriftFound",
    ),
    Metric(
        PREFIX + "drift_healed_total",
        "counter",
        "",
        "Files of them that were put right (`drift.healed`).",
        _count(lambda counts: counts.drift_healed),
        cloudwatch="DriftHealed",
    ),
    Metric(
        PREFIX + "drift_failed_total",
        "counter",
        "",
        "Times that could not be done (`drift.failed`); it is tried again.",
        _count(lambda counts: counts.drift_failed),
        cloudwatch="DriftFailed",
    ),
)
