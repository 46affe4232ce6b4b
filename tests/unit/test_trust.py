from __future__ import annotations

import msgspec
import pytest

from s3sync_agent.errors import PointerInvalid, RollbackRefused
from s3sync_agent.pointer import Document, Pointer, encode_pointer
from s3sync_agent.trust import accept
from tests.releases import SITE, pointer_after


def accepted(pointer: Pointer, before: Document | None = None, site: str = SITE.url) -> Document:
    return accept(encode_pointer(pointer), site=site, accepted=before)


def test_the_first_pointer_of_this_site_is_accepted() -> None:
    assert accepted(pointer_after("A")).pointer == pointer_after("A")


def test_a_later_one_replaces_it() -> None:
    assert accepted(pointer_after("A", "B"), accepted(pointer_after("A"))).pointer.active.version == "B"


def test_the_same_bytes_again_are_no_news() -> None:
    document = accepted(pointer_after("A"))
    assert accepted(pointer_after("A"), document) == document


def test_an_older_pointer_that_is_put_back_is_refused() -> None:
    with pytest.raises(RollbackRefused, match="was accepted already") as error:
        accepted(pointer_after("A"), accepted(pointer_after("A", "B")))
    assert "s3sync rollback" in error.value.hint


def test_two_different_pointers_with_one_sequence_are_refused() -> None:
    other = msgspec.structs.replace(pointer_after("B"), sequence=pointer_after("A").sequence)
    with pytest.raises(RollbackRefused, match="other content"):
        accepted(other, accepted(pointer_after("A")))


def test_a_pointer_of_staging_cannot_be_replayed_to_production() -> None:
    with pytest.raises(PointerInvalid, match="this site is 's3://bucket/production'"):
        accepted(pointer_after("A"), site="s3://bucket/production")


def test_what_was_accepted_for_another_site_does_not_bind_this_one() -> None:
    before = accepted(pointer_after("A", "B"))
    elsewhere = msgspec.structs.replace(pointer_after("A"), site="s3://bucket/production")
    assert accepted(elsewhere, before, site="s3://bucket/production").pointer == elsewhere


def test_a_pointer_from_outside_cannot_forge_a_line_of_the_log() -> None:
    forged = msgspec.structs.replace(pointer_after("A"), site="s3://x\nlevel=info all is well\x1b[2J")
    with pytest.raises(PointerInvalid) as error:
        accepted(forged)
    assert str(error.value).isprintable()
