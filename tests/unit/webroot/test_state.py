from __future__ import annotations

import pytest

from s3sync_agent.pointer import encode_pointer
from s3sync_agent.webroot import Webroot
from s3sync_agent.webroot.state import Denial, PlainRelease, State, encode_state, parse_state
from tests.releases import pointer_after

STATE = State(
    pointer=encode_pointer(pointer_after("A")).decode(),
    etag="etag",
    serving_promotion="promotion-1",
    serving_since=5.0,
    good=("promotion-1",),
    denied=(Denial("promotion-2", "the probe failed"),),
    retired={"v1-0123456789ab": 4.0},
    plain=PlainRelease("fingerprint", "v1-0123456789ab"),
)


def test_a_state_survives_a_restart(webroot: Webroot) -> None:
    webroot.save_state(STATE)
    assert webroot.state() == STATE


def test_the_pointer_is_kept_as_it_was_stored() -> None:
    document = STATE.document()
    assert document is not None
    assert document.pointer == pointer_after("A")
    assert State().document() is None


def test_a_missing_state_is_an_empty_one(webroot: Webroot) -> None:
    assert webroot.state() == State()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"etag":"\xff"}',
        b'{"etag":5}',
        b'{"schema":2}',
        b'{"pointer":"garbage"}',
        b'{"pointer":"{}"}',
        b'{"pointer":"\\ud800"}',
        b'{"x":' + b"[" * 100_000,
        encode_state(STATE)[:-20],
    ],
)
def test_a_damaged_state_is_an_empty_one(webroot: Webroot, raw: bytes) -> None:
    assert parse_state(raw) is None
    webroot.paths.state.write_bytes(raw)
    assert webroot.state() == State()


def test_a_state_that_cannot_be_read_is_an_empty_one(webroot: Webroot) -> None:
    webroot.paths.state.mkdir()
    assert webroot.state() == State()


def test_fields_of_a_later_agent_are_ignored() -> None:
    assert parse_state(b'{"colour":"blue"}') == State()
