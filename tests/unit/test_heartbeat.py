from __future__ import annotations

import msgspec
import pytest

from s3sync_agent.errors import HeartbeatInvalid
from s3sync_agent.heartbeat import (
    MAX_HEARTBEAT_BYTES,
    Heartbeat,
    Staged,
    encode_heartbeat,
    parse_heartbeat,
)
from tests.releases import SITE

BEAT = Heartbeat(site=SITE.url, identity="i-1", version="1.0", state="steady")


def test_what_is_written_is_what_is_read() -> None:
    assert parse_heartbeat(encode_heartbeat(BEAT), identity="i-1") == BEAT


def test_an_instance_speaks_for_itself_only() -> None:
    with pytest.raises(HeartbeatInvalid, match="speaks for 'i-1'"):
        parse_heartbeat(encode_heartbeat(BEAT), identity="i-2")


def test_fields_of_a_newer_agent_are_ignored_and_those_of_an_older_one_may_be_missing() -> None:
    document = {"type": "s3sync-heartbeat", "schema": 1, "site": SITE.url, "identity": "i-1"}
    raw = msgspec.json.encode(document | {"version": "1.0", "state": "steady", "mood": "good"})
    assert parse_heartbeat(raw, identity="i-1") == BEAT


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"type":"s3sync-pointer","schema":1}',
        b'{"type":"s3sync-heartbeat","schema":2}',
        b'{"type":"s3sync-heartbeat","schema":1,"site":"s","identity":"i-1","version":"1","state":7}',
        b" " * (MAX_HEARTBEAT_BYTES + 1),
        b"\xff",
        b"[" * 5000,
    ],
)
def test_anything_else_is_refused(raw: bytes) -> None:
    with pytest.raises(HeartbeatInvalid):
        parse_heartbeat(raw, identity="i-1")


def test_staged_is_this_digest_for_this_promotion() -> None:
    staged = Staged(version="B", manifest_sha256="a" * 64, promotion_id="promotion-1")
    beat = msgspec.structs.replace(BEAT, staged=(staged,))
    assert beat.has_staged("a" * 64, "promotion-1")
    assert not beat.has_staged("b" * 64, "promotion-1")
    assert not beat.has_staged("a" * 64, "promotion-2")
