from __future__ import annotations

import msgspec

from s3sync_agent.pointer import rolled_back
from s3sync_agent.retention import releases_to_prune
from tests.releases import NOON, pointer_after, reference


def published(*versions: str) -> dict[str, float]:
    return {version: NOON + count for count, version in enumerate(versions)}


def test_the_oldest_go_first() -> None:
    assert releases_to_prune(published("A", "B", "C", "D"), pointer_after("A", "B", "C", "D"), 2) == [
        "A",
        "B",
    ]


def test_with_fewer_releases_than_are_kept_nothing_goes() -> None:
    assert releases_to_prune(published("A", "B"), pointer_after("A", "B"), 5) == []


def test_what_the_pointer_names_stays_however_old() -> None:
    pointer = msgspec.structs.replace(
        pointer_after("A"), baseline=reference("B"), prepare=reference("C"), history=()
    )
    assert releases_to_prune(published("A", "B", "C", "D", "E"), pointer, 1) == ["D"]


def test_what_was_published_lately_stays_although_it_was_never_promoted() -> None:
    assert releases_to_prune(published("A", "B", "C", "D", "E"), pointer_after("A"), 2) == ["B", "C"]


def test_what_was_live_lately_stays_however_many_were_published_since() -> None:
    pointer = pointer_after("A", "B", "C")
    releases = published("A", "B", "C", "p1", "p2", "p3", "p4")
    assert releases_to_prune(releases, pointer, 3) == ["p1"]


def test_the_release_that_a_rollback_would_go_to_stays() -> None:
    pointer = pointer_after("A", "B", "C")
    back = rolled_back(pointer, ref=reference("B", promotion=9), by="", reason="", now=NOON)
    assert "A" not in releases_to_prune(published("A", "B", "C", "D"), back, 1)
    assert releases_to_prune(published("A", "B", "C", "D"), back, 1) == ["C"]


def test_promoting_one_release_many_times_does_not_push_the_others_out() -> None:
    pointer = pointer_after("A", "B", "C", "C", "C", "C")
    assert releases_to_prune(published("A", "B", "C", "p1", "p2", "p3"), pointer, 3) == []
