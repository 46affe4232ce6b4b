from __future__ import annotations

import contextlib
import string

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from s3sync_agent.errors import PointerInvalid, UnsafePath
from s3sync_agent.pointer import (
    HISTORY_LENGTH,
    POINTER_TYPE,
    SCHEMA,
    HistoryEntry,
    Pointer,
    ReleaseRef,
    Rollout,
    encode_pointer,
    format_time,
    parse_pointer,
    parse_time,
    promoted,
    rollback_target,
    rolled_back,
)
from tests.releases import NOON, SITE, pointer_after, reference

versions = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
promotion_ids = st.text(string.ascii_letters + string.digits + "_-", min_size=8, max_size=64)
moments = st.floats(0, 2**32, allow_nan=False).map(format_time)
texts = st.text(st.characters(codec="utf-8"), max_size=50)

refs = st.builds(
    ReleaseRef,
    version=versions,
    manifest_sha256=digests,
    manifest_size=st.integers(1, 2**40),
    promotion_id=promotion_ids,
    activate_at=st.none() | moments,
)
entries = st.builds(
    HistoryEntry,
    version=versions,
    manifest_sha256=digests,
    promotion_id=promotion_ids,
    promoted_at=moments,
    by=texts,
    reason=texts,
)
pointers = st.builds(
    Pointer,
    type=st.just(POINTER_TYPE),
    schema=st.just(SCHEMA),
    site=texts,
    sequence=st.integers(1, 2**53),
    active=refs,
    baseline=st.none() | refs,
    prepare=st.none() | refs,
    rollout=st.none() | st.builds(Rollout, st.integers(0, 100)),
    history=st.lists(entries, max_size=HISTORY_LENGTH).map(tuple),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(pointers)
def test_a_pointer_survives_storing(pointer: Pointer) -> None:
    raw = encode_pointer(pointer)
    document = parse_pointer(raw)
    assert document.pointer == pointer
    assert encode_pointer(document.pointer) == raw


@given(st.binary(max_size=400))
def test_garbage_is_only_ever_refused(raw: bytes) -> None:
    with contextlib.suppress(PointerInvalid, UnsafePath):
        parse_pointer(raw)


@given(json_values, st.sampled_from([*Pointer.__struct_fields__, "signed"]))
def test_a_pointer_with_anything_in_one_field_is_read_or_refused(value: object, field: str) -> None:
    signed = msgspec.to_builtins(pointer_after("A", "B")) | {field: value}
    document = {"signed": value if field == "signed" else signed}
    with contextlib.suppress(PointerInvalid, UnsafePath):
        parse_pointer(msgspec.json.encode(document))


@given(st.integers(0, 3000), st.integers(0, 7))
def test_a_pointer_with_one_flipped_bit_is_read_or_refused(at: int, bit: int) -> None:
    raw = bytearray(encode_pointer(pointer_after("A", "B", "C")))
    raw[at % len(raw)] ^= 1 << bit
    with contextlib.suppress(PointerInvalid, UnsafePath):
        parse_pointer(bytes(raw))


@given(st.floats(0, 2**32, allow_nan=False))
def test_times_survive_to_the_millisecond(seconds: float) -> None:
    assert abs(parse_time(format_time(seconds)) - seconds) <= 0.001


@given(st.lists(st.sampled_from("ABCDEF"), min_size=1, max_size=3 * HISTORY_LENGTH))
def test_the_way_back_is_never_the_live_release_and_ends(promotions: list[str]) -> None:
    pointer = pointer_after(*promotions)
    seen = {pointer.active.version}
    while (target := rollback_target(pointer)) is not None:
        assert target.version not in seen
        seen.add(target.version)
        ref = reference(target.version, promotion=len(seen))
        pointer = rolled_back(pointer, ref=ref, by="", reason="", now=NOON)


# What people do: promote a new release, or go back one.
steps = st.lists(st.booleans(), max_size=4 * HISTORY_LENGTH)


@given(steps)
@example([True, False] * HISTORY_LENGTH + [False])
def test_going_back_and_forth_any_number_of_times_is_a_stack(forward: list[bool]) -> None:
    pointer = pointer_after("v0")
    stack = ["v0"]
    for count, new in enumerate(forward, start=1):
        if new:
            stack.append(f"v{count}")
            ref = reference(stack[-1], promotion=count)
            pointer = promoted(pointer, site=SITE.url, ref=ref, by="", reason="", now=NOON)
        else:
            target = rollback_target(pointer)
            if target is None:
                assert len(stack) == 1 or len(pointer.history) == HISTORY_LENGTH
                break
            stack.pop()
            assert target.version == stack[-1]
            ref = reference(target.version, promotion=count)
            pointer = rolled_back(pointer, ref=ref, by="", reason="", now=NOON)
