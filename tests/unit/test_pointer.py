from __future__ import annotations

from typing import Any

import msgspec
import pytest

from s3sync_agent.errors import PointerInvalid, UnsafePath
from s3sync_agent.pointer import (
    HISTORY_LENGTH,
    MAX_POINTER_BYTES,
    Pointer,
    ReleaseRef,
    Rollout,
    aborted,
    activated,
    encode_pointer,
    format_time,
    frozen,
    next_sequence,
    parse_pointer,
    parse_time,
    prepared,
    promoted,
    rollback_target,
    rolled_back,
    unfrozen,
    widened,
)
from tests.releases import NOON, SITE, pointer_after, reference


def rolled_back_once(pointer: Pointer, promotion: int) -> Pointer:
    target = rollback_target(pointer)
    assert target is not None
    ref = reference(target.version, promotion=promotion)
    return rolled_back(pointer, ref=ref, by="somebody", reason="", now=NOON)


def promoted_after(pointer: Pointer, version: str, promotion: int) -> Pointer:
    ref = reference(version, promotion=promotion)
    return promoted(pointer, site=SITE.url, ref=ref, by="somebody", reason="", now=NOON)


def target_version(pointer: Pointer) -> str | None:
    target = rollback_target(pointer)
    return target.version if target else None


# ------------------------------------------------------------------------- going back


def test_the_first_promotion_has_nothing_to_go_back_to() -> None:
    assert target_version(pointer_after("A")) is None


def test_a_rollback_goes_to_the_release_before() -> None:
    assert target_version(pointer_after("A", "B", "C")) == "B"


def test_a_second_rollback_goes_further_back_not_forth() -> None:
    once = rolled_back_once(pointer_after("A", "B", "C"), promotion=10)
    assert once.active.version == "B"
    twice = rolled_back_once(once, promotion=11)
    assert twice.active.version == "A"
    assert target_version(twice) is None


def test_a_release_promoted_after_a_rollback_goes_back_to_where_the_rollback_went() -> None:
    back_at_b = rolled_back_once(pointer_after("A", "B", "C"), promotion=10)
    assert target_version(promoted_after(back_at_b, "D", 11)) == "B"


def test_a_release_promoted_again_after_it_was_left_goes_back_to_the_one_between() -> None:
    back_at_a = rolled_back_once(pointer_after("A", "B"), promotion=10)
    assert target_version(promoted_after(back_at_a, "B", 11)) == "A"


def test_promoting_the_live_release_once_more_does_not_make_it_its_own_way_back() -> None:
    assert target_version(pointer_after("A", "B", "B", "B")) == "A"


def test_the_way_back_from_a_release_that_only_some_instances_had_is_the_last_one_for_all() -> None:
    canary = msgspec.structs.replace(
        pointer_after("A", "B"), active=reference("C", promotion=9), rollout=Rollout(10)
    )
    assert target_version(canary) == "B"


def test_a_long_history_of_going_back_and_forth_never_leads_to_what_was_left() -> None:
    pointer = pointer_after("A", "B")
    for count in range(HISTORY_LENGTH):
        bad = promoted_after(pointer, f"bad-{count}", 100 + 2 * count)
        assert target_version(bad) == "B"
        pointer = rolled_back_once(bad, promotion=101 + 2 * count)
        assert pointer.active.version == "B"
        assert target_version(pointer) == "A"
        assert len(pointer.history) <= HISTORY_LENGTH


def test_history_keeps_the_newest_promotions() -> None:
    versions = [f"v{count}" for count in range(HISTORY_LENGTH + 5)]
    kept = [entry.version for entry in pointer_after(*versions).history]
    assert kept == versions[: -HISTORY_LENGTH - 1 : -1]


# --------------------------------------------------------------------------- baseline


def test_the_first_pointer_has_no_baseline() -> None:
    assert pointer_after("A").baseline is None


def test_what_was_live_for_everyone_becomes_the_baseline_and_loses_its_instant() -> None:
    before = pointer_after("A")
    active = msgspec.structs.replace(before.active, activate_at=format_time(NOON))
    after = promoted_after(msgspec.structs.replace(before, active=active), "B", 2)
    assert after.baseline == before.active
    assert after.baseline is not None
    assert after.baseline.activate_at is None


def test_what_only_some_instances_had_never_becomes_the_baseline() -> None:
    before = pointer_after("A", "B")
    canary = msgspec.structs.replace(before, active=reference("C", promotion=9), rollout=Rollout(50))
    after = promoted_after(canary, "D", 10)
    assert after.baseline == before.baseline
    assert after.rollout is None


def test_a_rollout_that_reached_everyone_is_a_baseline() -> None:
    whole = msgspec.structs.replace(pointer_after("A"), rollout=Rollout(100))
    after = promoted_after(whole, "B", 2)
    assert after.baseline == whole.active


def test_after_a_rollback_the_release_is_its_own_baseline() -> None:
    back = rolled_back_once(pointer_after("A", "B"), promotion=10)
    assert back.baseline is not None
    assert back.baseline.version == back.active.version == "A"


def test_promoting_ends_what_was_being_prepared() -> None:
    preparing = msgspec.structs.replace(pointer_after("A"), prepare=reference("B", promotion=2))
    assert promoted_after(preparing, "C", 3).prepare is None


# --------------------------------------------------------------------------- sequence


def test_the_sequence_follows_the_clock_and_grows_when_the_clock_does_not() -> None:
    assert next_sequence(None, 1000.9) == 1000
    assert next_sequence(1000, 1000.9) == 1001
    assert next_sequence(2000, 1000.9) == 2001


# ------------------------------------------------------------------------ the document


def test_a_pointer_survives_storing() -> None:
    pointer = pointer_after("A", "B")
    document = parse_pointer(encode_pointer(pointer))
    assert document.pointer == pointer
    assert document.signed == msgspec.json.encode(pointer)
    assert document.signatures == ()


def test_signed_is_the_stored_bytes_also_when_they_are_written_another_way() -> None:
    signed = msgspec.json.format(msgspec.json.encode(pointer_after("A")), indent=4)
    document = parse_pointer(b'{"signatures": [], "signed":' + signed + b"}")
    assert document.signed == signed.strip()


def test_fields_of_later_versions_are_ignored() -> None:
    fields = msgspec.to_builtins(pointer_after("A")) | {"colour": "blue"}
    assert parse_pointer(msgspec.json.encode({"signed": fields})).pointer == pointer_after("A")


def stored(**changes: object) -> bytes:
    return msgspec.json.encode({"signed": msgspec.to_builtins(pointer_after("A")) | changes})


def active(**changes: object) -> dict[str, object]:
    fields: dict[str, object] = msgspec.to_builtins(reference("A"))
    return fields | changes


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"garbage",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"{}",
        b'{"signed":{}}',
        b'{"signed":null}',
        b'{"signed":[1]}',
        b"[" * 60_000,
        b" " * (MAX_POINTER_BYTES + 1),
        stored(type="s3sync-manifest"),
        stored(schema=2),
        stored(schema="1"),
        stored(sequence=0),
        stored(sequence=2**53 + 1),
        stored(sequence=1.5),
        stored(active=None),
        stored(active=active(manifest_sha256="A" * 64)),
        stored(active=active(manifest_sha256="a" * 64 + "\n")),
        stored(active=active(manifest_size=0)),
        stored(active=active(promotion_id="short")),
        stored(active=active(activate_at="tomorrow")),
        stored(active=active(activate_at="2026-13-01T00:00:00Z")),
        stored(active=active(activate_at="2026-11-22T18:15:00+02:00")),
        stored(rollout={"percent": 101}),
        stored(history=[{}]),
        stored(history=[msgspec.to_builtins(pointer_after("A").history[0])] * (HISTORY_LENGTH + 1)),
    ],
)
def test_what_is_no_pointer_is_refused(raw: bytes) -> None:
    with pytest.raises(PointerInvalid):
        parse_pointer(raw)


@pytest.mark.parametrize("version", ["../../etc/x", "", ".hidden", "a/b", "a\nb", "x" * 129])
def test_a_version_that_could_leave_its_directory_is_refused(version: str) -> None:
    with pytest.raises(UnsafePath):
        parse_pointer(stored(active=active(version=version)))


def test_a_pointer_that_would_be_too_large_is_not_written() -> None:
    pointer = msgspec.structs.replace(pointer_after("A"), site="s" * MAX_POINTER_BYTES)
    with pytest.raises(PointerInvalid, match="the limit is 65536"):
        encode_pointer(pointer)


def test_the_releases_a_pointer_names_are_active_baseline_and_prepare() -> None:
    pointer = msgspec.structs.replace(pointer_after("A", "B"), prepare=reference("C"))
    assert [ref.version for ref in pointer.named()] == ["B", "A", "C"]


def test_times_are_rfc_3339_in_utc_with_milliseconds() -> None:
    assert format_time(1_800_000_000.25) == "2027-01-15T08:00:00.250Z"
    assert parse_time("2027-01-15T08:00:00.250Z") == 1_800_000_000.25
    assert parse_time("2027-01-15T08:00:00Z") == 1_800_000_000


def test_a_release_is_known_on_disk_by_version_and_digest() -> None:
    ref = ReleaseRef(version="v1", manifest_sha256="ab" * 32, manifest_size=1, promotion_id="p" * 8)
    assert ref.id == "v1-abababababab"


# ----------------------------------------------------------------- a promotion's course

BY: dict[str, Any] = {"by": "somebody", "reason": "", "now": NOON}
B = reference("B", promotion=5)


def prepared_b() -> Pointer:
    return prepared(pointer_after("A"), ref=B, now=NOON)


def test_preparing_changes_nothing_that_is_served() -> None:
    before = pointer_after("A")
    after = prepared_b()
    assert after.prepare == B
    assert (after.active, after.baseline, after.history) == (before.active, before.baseline, before.history)
    assert after.sequence > before.sequence


def test_what_was_prepared_becomes_active_under_its_id_at_its_instant() -> None:
    after = activated(prepared_b(), activate_at=NOON + 10, percent=None, **BY)
    assert (after.active.promotion_id, after.active.activate_at) == (B.promotion_id, format_time(NOON + 10))
    assert (after.prepare, after.rollout) == (None, None)
    assert after.baseline is not None
    assert after.baseline.version == "A"
    assert [entry.version for entry in after.history] == ["B", "A"]


def test_what_instances_denied_is_no_baseline_for_what_comes_next() -> None:
    bad = activated(prepared_b(), activate_at=None, percent=None, **BY)
    following = prepared(bad, ref=reference("C", promotion=6), now=NOON)
    after = activated(following, activate_at=NOON + 10, percent=None, stayed=False, **BY)
    assert after.baseline is not None
    assert after.baseline.version == "A"


def test_what_only_some_have_is_no_history_until_all_have_it() -> None:
    canary = activated(prepared_b(), activate_at=NOON + 10, percent=10, **BY)
    assert canary.rollout == Rollout(10)
    assert [entry.version for entry in canary.history] == ["A"]
    half = widened(canary, activate_at=NOON + 20, percent=50, **BY)
    assert (half.rollout, half.baseline, half.history) == (Rollout(50), canary.baseline, canary.history)
    everyone = widened(half, activate_at=NOON + 30, percent=None, **BY)
    assert everyone.rollout is None
    assert everyone.active.promotion_id == B.promotion_id
    assert [entry.version for entry in everyone.history] == ["B", "A"]


def test_an_abort_takes_back_what_is_prepared() -> None:
    after = aborted(prepared_b(), now=NOON)
    assert after == msgspec.structs.replace(pointer_after("A"), sequence=after.sequence)


@pytest.mark.parametrize("percent", [None, 10])
def test_an_abort_after_activation_goes_back_to_the_baseline_under_its_own_id(percent: int | None) -> None:
    before = pointer_after("A")
    active = activated(prepared_b(), activate_at=NOON + 10, percent=percent, **BY)
    after = aborted(active, now=NOON)
    assert after.active == after.baseline == before.active
    assert (after.rollout, after.prepare, after.history) == (None, None, before.history)
    assert after.sequence > active.sequence


def test_a_freeze_changes_nothing_else_and_outlives_a_rollback() -> None:
    before = pointer_after("A", "B")
    after = frozen(before, reason="audit", by="somebody", now=NOON)
    assert after.freeze is not None
    assert after.freeze.reason == "audit"
    assert rolled_back_once(after, promotion=7).freeze == after.freeze
    lifted = unfrozen(after, now=NOON)
    assert lifted == msgspec.structs.replace(before, sequence=lifted.sequence)
