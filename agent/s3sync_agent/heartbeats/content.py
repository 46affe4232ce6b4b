"""From the status of an agent to its heartbeat, which always fits. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from s3sync_agent import layout
from s3sync_agent.errors import HeartbeatInvalid
from s3sync_agent.heartbeat import (
    MAX_ITEMS,
    MAX_TEXT,
    STOPPED,
    Denied,
    Heartbeat,
    Trouble,
    encode_heartbeat,
)
from s3sync_agent.report import Problem, Status
from s3sync_agent.settings import Settings

# What is left of each text where all of them together would be too long.
_SHORT = 80


def heartbeat_of(
    status: Status, settings: Settings, *, instance_id: str = "", zone: str = "", stopped: bool = False
) -> Heartbeat:
    """What an agent says of itself, but for `written_at`: the writer knows that."""
    counts = status.counts
    return Heartbeat(
        site=status.site,
        identity=status.identity,
        instance_id=instance_id,
        zone=zone,
        version=status.version,
        state=STOPPED if stopped else status.state,
        stale=status.stale,
        canary=settings.canary,
        serving=status.serving,
        promotion_id=status.promotion_id,
        good=status.good,
        healthy=status.healthy,
        activated_at=status.serving_since if status.serving else "",
        wanted=status.wanted,
        sequence=status.sequence,
        staged=status.ready[:MAX_ITEMS],
        denied=tuple(
            Denied(promotion_id=d.promotion_id, reason=_text(d.reason)) for d in status.denied[:MAX_ITEMS]
        ),
        failed=tuple(
            replace(f, message=_text(f.message), hint=_text(f.hint)) for f in status.failed[:MAX_ITEMS]
        ),
        behind_seconds=status.behind_seconds,
        because=_text(status.because),
        problem=_trouble(status.problem),
        clock_offset=status.clock_offset,
        polled_at=status.polled_at,
        next_poll_at=status.next_poll_at,
        poll_interval=status.poll_interval,
        heartbeat_interval=settings.heartbeat_interval,
        stage_seconds=counts.last_stage_seconds,
        activate_seconds=counts.last_activation_seconds,
        late_seconds=counts.last_activation_late,
    )


def timeless(beat: Heartbeat) -> Heartbeat:
    """Without what moves on by itself: when this changes, there is something to tell."""
    return replace(beat, polled_at="", next_poll_at="", behind_seconds=0.0, written_at="")


def encode_fitting(beat: Heartbeat) -> bytes:
    """Heartbeat → at most MAX_HEARTBEAT_BYTES. Where it is longer, it loses texts and never facts."""
    for shorter in _shortened(beat):
        try:
            return encode_heartbeat(shorter)
        except HeartbeatInvalid:
            continue
    raise AssertionError("what is left without texts has a limit")


def _shortened(beat: Heartbeat) -> Iterator[Heartbeat]:
    """Ever shorter ones: hints go first, then most of every reason, then all of it."""
    yield beat
    yield _with_texts(beat, reason=MAX_TEXT, hint=0)
    yield _with_texts(beat, reason=_SHORT, hint=0)
    yield _with_texts(beat, reason=0, hint=0)


def _with_texts(beat: Heartbeat, *, reason: int, hint: int) -> Heartbeat:
    problem = beat.problem
    return replace(
        beat,
        denied=tuple(replace(item, reason=item.reason[:reason]) for item in beat.denied),
        failed=tuple(
            replace(item, message=item.message[:reason], hint=item.hint[:hint]) for item in beat.failed
        ),
        because=beat.because[:reason],
        problem=problem and replace(problem, message=problem.message[:reason], hint=problem.hint[:hint]),
    )


def _trouble(problem: Problem | None) -> Trouble | None:
    if problem is None:
        return None
    return Trouble(error=problem.error, message=_text(problem.message), hint=_text(problem.hint))


def _text(text: str) -> str:
    return layout.escape(text)[:MAX_TEXT]
