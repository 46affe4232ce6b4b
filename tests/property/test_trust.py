from __future__ import annotations

import contextlib

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from s3sync_agent.errors import ReleaseError
from s3sync_agent.pointer import Document, Pointer, encode_pointer, parse_pointer
from s3sync_agent.trust import accept
from tests.property.strategies import pointers
from tests.releases import SITE

# Close together, so that they are equal, too low and just above.
written = st.builds(
    lambda pointer, sequence, site: msgspec.structs.replace(pointer, sequence=sequence, site=site),
    pointers,
    st.integers(1, 6),
    st.sampled_from([SITE.url, SITE.url, SITE.url, "s3://bucket/staging"]),
)


@given(st.lists(st.builds(encode_pointer, written) | st.binary(max_size=50), max_size=8))
def test_whatever_is_put_there_what_is_accepted_is_for_this_site_and_only_goes_up(
    bodies: list[bytes],
) -> None:
    accepted: Document | None = None
    for raw in bodies:
        before = accepted
        with contextlib.suppress(ReleaseError):
            accepted = accept(raw, site=SITE.url, accepted=accepted)
            assert accepted == parse_pointer(raw)
            assert accepted.pointer.site == SITE.url
            if before is not None and accepted.signed != before.signed:
                assert accepted.pointer.sequence > before.pointer.sequence


@given(written)
def test_the_same_pointer_is_accepted_again(pointer: Pointer) -> None:
    raw = encode_pointer(pointer)
    document = accept(raw, site=pointer.site, accepted=None)
    assert accept(raw, site=pointer.site, accepted=document) == document
