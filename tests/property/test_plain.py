from __future__ import annotations

import contextlib
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from s3sync_agent.bucket import Listed
from s3sync_agent.errors import UnsafePath
from s3sync_agent.layout import check_path, check_tree
from s3sync_agent.plain import (
    Object,
    Tree,
    fingerprint,
    first_difference,
    hold_reason,
    read_listing,
    unsettled_for,
)
from tests.property.strategies import etags, listings, paths, unsafe_paths
from tests.releases import NOON, SITE

RELEASE = SITE.release("20261122T181500Z")

keys = st.lists(st.one_of(paths, unsafe_paths, paths.map("{}/".format)), max_size=6, unique=True)
seconds = st.floats(0, 1000)


@given(keys, st.integers(0, 1))
def test_any_listing_is_a_tree_of_safe_paths_or_refused(names: list[str], size: int) -> None:
    listed = [Listed(SITE.current + name, size, "etag", NOON) for name in names]
    with contextlib.suppress(UnsafePath):
        tree = read_listing(SITE, listed)
        check_tree(check_path(item.path) for item in tree.objects)
        assert {item.path for item in tree.objects} <= set(names)


@given(listings())
def test_every_file_of_current_is_in_its_tree(listed: list[Listed]) -> None:
    tree = read_listing(SITE, listed)
    assert [(SITE.current + item.path, item.size, item.etag) for item in tree.objects] == [
        (item.key, item.size, item.etag) for item in listed
    ]
    assert tree.newest == max((item.last_modified for item in listed), default=0.0)


@given(listings(), st.randoms(use_true_random=False))
def test_a_fingerprint_does_not_depend_on_the_order(listed: list[Listed], random: Random) -> None:
    objects = list(read_listing(SITE, listed).objects)
    shuffled = list(objects)
    random.shuffle(shuffled)
    assert fingerprint(shuffled) == fingerprint(objects)


@given(listings().filter(bool), st.integers(0, 100), etags)
def test_a_fingerprint_changes_with_every_etag(listed: list[Listed], at: int, etag: str) -> None:
    objects = list(read_listing(SITE, listed).objects)
    chosen = objects[at % len(objects)]
    changed = [replace(item, etag=etag) if item is chosen else item for item in objects]
    assert (fingerprint(changed) == fingerprint(objects)) is (etag == chosen.etag)


@given(listings().filter(bool), st.integers(0, 100))
def test_a_fingerprint_changes_when_a_file_goes(listed: list[Listed], at: int) -> None:
    objects = list(read_listing(SITE, listed).objects)
    fewer = objects[: at % len(objects)] + objects[at % len(objects) + 1 :]
    assert fingerprint(fewer) != fingerprint(objects)


def tree_of(newest: float, marker: float | None = None) -> Tree:
    return Tree((Object("index.html", 1, "etag", newest),), "fingerprint", newest, marker, has_pointer=False)


@given(seconds, seconds, seconds)
def test_nothing_settles_before_both_its_ages_have_passed(age: float, seen_for: float, settle: float) -> None:
    wait = unsettled_for(tree_of(NOON - age), now=NOON, seen_for=seen_for, settle=settle)
    now = NOON - (NOON - (NOON - age))  # the age as a float of this size can hold it
    assert wait >= 0
    assert (wait == 0) == (seen_for >= settle and NOON - now >= settle)


@given(seconds, seconds, seconds)
def test_after_the_wait_it_has_settled(age: float, seen_for: float, settle: float) -> None:
    tree = tree_of(NOON - age)
    wait = unsettled_for(tree, now=NOON, seen_for=seen_for, settle=settle)
    later = unsettled_for(tree, now=NOON + wait, seen_for=seen_for + wait, settle=settle)
    assert later < 0.001


@given(seconds, seconds)
def test_only_a_marker_that_is_not_older_than_any_file_settles_at_once(age: float, settle: float) -> None:
    newest = NOON - age
    assert unsettled_for(tree_of(newest, newest), now=NOON, seen_for=0, settle=settle) == 0
    older = tree_of(newest, newest - 1)
    assert unsettled_for(older, now=NOON, seen_for=0, settle=settle) == settle


@given(listings(), st.integers(1, 40))
def test_a_tree_without_an_index_or_less_than_half_of_what_is_live_is_held(
    listed: list[Listed], live: int
) -> None:
    tree = read_listing(SITE, listed)
    assert hold_reason(tree, live_files=None)  # no name of a listing is index.html
    index = Listed(SITE.current + "index.html", 1, "etag", NOON)
    whole = read_listing(SITE, [*listed, index])
    assert bool(hold_reason(whole, live_files=live)) == (2 * len(whole.objects) < live)
    assert not hold_reason(whole, live_files=None)


def pushed(objects: tuple[Object, ...]) -> list[Listed]:
    return [Listed(RELEASE + item.path, item.size, item.etag, NOON) for item in objects]


@given(listings(), listings())
def test_two_trees_have_no_difference_exactly_when_they_are_equal(
    mine: list[Listed], theirs: list[Listed]
) -> None:
    current = read_listing(SITE, mine).objects
    release = read_listing(SITE, theirs).objects
    difference = first_difference(current, iter(pushed(release)), RELEASE, etags_comparable=True)
    equal = {(o.path, o.size, o.etag) for o in current} == {(o.path, o.size, o.etag) for o in release}
    assert (difference == "") is equal
    assert difference.isprintable()


@given(listings().filter(bool), st.integers(0, 100), etags)
def test_one_other_content_is_a_difference_only_where_etags_can_be_compared(
    listed: list[Listed], at: int, etag: str
) -> None:
    current = read_listing(SITE, listed).objects
    release = pushed(current)
    chosen = release[at % len(release)]
    for other, comparable, is_difference in (
        (etag, True, etag != chosen.etag),
        (etag, False, False),
        (f"{etag}-2", True, False),  # a multipart upload's
    ):
        copied = replace(chosen, etag=other, last_modified=0.0)  # the release was written first
        altered = [copied if item is chosen else item for item in release]
        found = first_difference(current, iter(altered), RELEASE, etags_comparable=comparable)
        assert bool(found) is is_difference


@given(listings(), st.integers(0, 20))
def test_an_interrupted_copy_is_a_difference(listed: list[Listed], copied: int) -> None:
    whole = read_listing(SITE, listed).objects
    found = first_difference(whole[:copied], iter(pushed(whole)), RELEASE, etags_comparable=True)
    assert bool(found) is (copied < len(whole))
