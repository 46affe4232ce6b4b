"""From status to heartbeat: what is told, and that it fits whatever there is to tell."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3sync_agent.heartbeat import (
    MAX_HEARTBEAT_BYTES,
    MAX_TEXT,
    Denied,
    Failed,
    Heartbeat,
    Staged,
    Trouble,
    parse_heartbeat,
)
from s3sync_agent.heartbeats.content import encode_fitting, heartbeat_of, timeless
from s3sync_agent.report import Problem, Status
from s3sync_agent.settings import Settings, load
from tests.releases import SITE
from tests.statuses import STATUS

STAGED = Staged(version="v1", manifest_sha256="a" * 64, promotion_id="promotion-000001")


def settings(**overrides: Any) -> Settings:
    return load(config=None, environ={}, overrides={"site": SITE.url, "identity": "i-1"} | overrides)


def beat_of(**changes: Any) -> Heartbeat:
    return heartbeat_of(msgspec.structs.replace(STATUS, **changes), settings())


def test_it_says_what_the_status_says() -> None:
    status = msgspec.structs.replace(STATUS, promotion_id="promotion-000001", good=True, ready=(STAGED,))
    beat = heartbeat_of(
        status, settings(canary=True, heartbeat_interval=30), instance_id="i-0123", zone="eu-central-1a"
    )
    assert beat == Heartbeat(
        site=STATUS.site,
        identity="i-1",
        instance_id="i-0123",
        zone="eu-central-1a",
        version="1.0",
        state="steady",
        canary=True,
        serving=STATUS.serving,
        promotion_id="promotion-000001",
        good=True,
        healthy=True,
        activated_at=STATUS.serving_since,
        wanted=STATUS.wanted,
        sequence=7,
        staged=(STAGED,),
        problem=Trouble(error="StoreDenied", message="no", hint="ask"),
        polled_at=STATUS.polled_at,
        heartbeat_interval=30.0,
        stage_seconds=1.5,
    )


def test_an_agent_that_ends_says_so_in_the_place_of_its_state() -> None:
    assert heartbeat_of(STATUS, settings(), stopped=True).state == "stopped"


def test_without_a_release_nothing_was_activated() -> None:
    assert beat_of(serving="").activated_at == ""


def test_that_time_goes_on_is_nothing_to_tell() -> None:
    later = beat_of(polled_at="2026-11-22T19:00:00.000Z", next_poll_at="x", behind_seconds=7.0)
    assert timeless(later) == timeless(beat_of())
    assert timeless(beat_of(sequence=8)) != timeless(beat_of())


def test_what_could_move_a_cursor_is_made_visible_and_long_texts_are_cut() -> None:
    beat = beat_of(because="\x1b[2J" + "x" * 2 * MAX_TEXT, problem=Problem("E", "\udcff", "\n"))
    assert beat.because == "\\x1b[2J" + "x" * (MAX_TEXT - 7)
    assert beat.problem == Trouble(error="E", message="\\udcff", hint="\\n")


# Four bytes each, and a character that JSON spells with two.
WIDE = "\U0001f980" * MAX_TEXT
QUOTES = '"' * MAX_TEXT


def denials(count: int, reason: str) -> tuple[Denied, ...]:
    return tuple(Denied(promotion_id=f"promotion-{n:06}", reason=reason) for n in range(count))


def failures(count: int, message: str, hint: str = "") -> tuple[Failed, ...]:
    return tuple(
        Failed(
            promotion_id=f"promotion-{n:06}", release="v" * 141, error="DiskFull", message=message, hint=hint
        )
        for n in range(count)
    )


def read(status: Status) -> Heartbeat:
    raw = encode_fitting(heartbeat_of(status, settings()))
    assert len(raw) <= MAX_HEARTBEAT_BYTES
    return parse_heartbeat(raw, identity="i-1")


def test_hints_go_first() -> None:
    status = msgspec.structs.replace(STATUS, failed=failures(7, "m" * MAX_TEXT, WIDE))
    beat = read(status)
    assert [item.message for item in beat.failed] == ["m" * MAX_TEXT] * 7
    assert {item.hint for item in beat.failed} == {""}


def test_then_reasons_are_shortened_before_they_go() -> None:
    few = read(msgspec.structs.replace(STATUS, denied=denials(20, "r" * 1000)))
    assert {len(item.reason) for item in few.denied} == {MAX_TEXT}
    some = read(msgspec.structs.replace(STATUS, denied=denials(20, QUOTES)))
    assert {item.reason for item in some.denied} == {'"' * 80}
    many = read(msgspec.structs.replace(STATUS, denied=denials(20, WIDE), failed=failures(20, WIDE)))
    assert {item.reason for item in many.denied} == {""}
    assert [item.promotion_id for item in many.denied] == [f"promotion-{n:06}" for n in range(20)]


@pytest.mark.parametrize("count", [0, 1, 20, 40])
@given(text=st.text(max_size=600), hint=st.text(max_size=600))
def test_it_fits_and_can_be_read_whatever_happened(count: int, text: str, hint: str) -> None:
    status = msgspec.structs.replace(
        STATUS,
        denied=denials(count, text),
        failed=failures(count, text, hint),
        because=text,
        problem=Problem("StagingError", text, hint),
    )
    assert len(read(status).denied) == min(count, 20)
