from __future__ import annotations

import pytest

from s3sync_agent.bucket import Listed
from s3sync_agent.errors import UnsafePath
from s3sync_agent.plain import Tree, first_difference, hold_reason, read_listing, unsettled_for
from tests.releases import NOON, SITE

PREFIX = SITE.release("20261122T181500Z")
MD5 = "0" * 32


def tree(*paths: str, at: float = NOON) -> Tree:
    return read_listing(SITE, [Listed(SITE.current + path, 1, MD5, at) for path in paths])


def difference(release: list[Listed], *, etags_comparable: bool = True) -> str:
    current = tree("a.css", "index.html").objects
    return first_difference(current, iter(release), PREFIX, etags_comparable=etags_comparable)


def listed(path: str, size: int = 1, etag: str = MD5) -> Listed:
    return Listed(PREFIX + path, size, etag, NOON)


def test_folders_made_by_a_console_are_no_files() -> None:
    listing = [Listed(SITE.current + path, 0, MD5, NOON) for path in ("", "a/", "a/b/", "index.html")]
    assert [item.path for item in read_listing(SITE, listing).objects] == ["index.html"]


def test_a_file_whose_name_ends_in_a_slash_is_refused() -> None:
    with pytest.raises(UnsafePath):
        read_listing(SITE, [Listed(f"{SITE.current}a/", 1, MD5, NOON)])


@pytest.mark.parametrize("path", ["../x", "/x", "a\\b", "n" * 300, "a//b"])
def test_an_unsafe_key_refuses_the_whole_listing(path: str) -> None:
    with pytest.raises(UnsafePath):
        tree("index.html", path)


def test_a_file_that_is_also_a_folder_refuses_the_whole_listing() -> None:
    with pytest.raises(UnsafePath, match="both a file and a directory"):
        tree("a", "a/b", "index.html")


def test_a_pointer_says_that_this_is_no_plain_site() -> None:
    assert tree("index.html", ".s3sync/pointer.json").has_pointer
    assert not tree("index.html").has_pointer


def test_our_own_files_do_not_change_what_a_tree_is() -> None:
    bare = tree("index.html")
    marked = read_listing(
        SITE,
        [
            Listed(SITE.complete_marker, 0, MD5, NOON + 5),
            Listed(f"{SITE.current}.s3sync/other", 9, MD5, NOON + 9),
            Listed(f"{SITE.current}index.html", 1, MD5, NOON),
        ],
    )
    assert (marked.fingerprint, marked.newest) == (bare.fingerprint, bare.newest)
    assert (bare.marker, marked.marker) == (None, NOON + 5)


# --------------------------------------------------------------------------- settling


def test_a_push_in_progress_is_not_settled() -> None:
    assert unsettled_for(tree("index.html"), now=NOON + 3, seen_for=100, settle=10) == 7


def test_a_deletion_leaves_no_time_behind_so_our_own_eyes_count_too() -> None:
    assert unsettled_for(tree("index.html"), now=NOON + 1000, seen_for=4, settle=10) == 6


def test_a_clock_that_is_behind_only_waits_longer() -> None:
    assert unsettled_for(tree("index.html"), now=NOON - 50, seen_for=100, settle=10) == 60


def test_a_marker_of_the_push_before_settles_nothing() -> None:
    old = Tree(tree("index.html").objects, "f", NOON, NOON - 1, has_pointer=False)
    assert unsettled_for(old, now=NOON, seen_for=0, settle=10) == 10


# ---------------------------------------------------------------------------- holding


@pytest.mark.parametrize(
    ("paths", "live", "reason"),
    [
        ([], None, "is empty"),
        (["a.css"], None, "no index.html"),
        (["docs/index.html"], None, "no index.html"),
        (["index.html"], 3, "shrank from 3 files to 1"),
    ],
)
def test_what_is_never_served(paths: list[str], live: int | None, reason: str) -> None:
    assert reason in hold_reason(tree(*paths), live_files=live)


def test_half_of_what_is_live_may_go_at_once() -> None:
    assert hold_reason(tree("index.html"), live_files=2) == ""


# -------------------------------------------------------------------------- comparing


def test_current_equals_the_release_it_was_copied_from() -> None:
    assert difference([listed(".s3sync/manifest.json"), listed("a.css"), listed("index.html")]) == ""


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ([listed("index.html")], "a.css is only in current/"),
        ([listed("a.css")], "index.html is only in current/"),
        ([listed("a.css"), listed("b.css"), listed("index.html")], "b.css is missing in current/"),
        ([listed("a.css"), listed("index.html"), listed("z")], "z is missing in current/"),
        ([listed("a.css", size=2), listed("index.html")], "a.css has another size"),
        ([listed("a.css", etag="1" * 32), listed("index.html")], "a.css has other content"),
        ([listed("a\n.css"), listed("index.html")], "a\\n.css is missing in current/"),
    ],
)
def test_the_first_difference_is_named(release: list[Listed], said: str) -> None:
    assert difference(release) == said


def test_etags_that_are_no_md5_say_nothing() -> None:
    release = [listed("a.css", etag="1" * 32 + "-2"), listed("index.html")]
    assert difference(release) == ""


def test_a_large_release_is_listed_only_up_to_the_first_difference() -> None:
    pages = iter([listed("a.css"), listed("b.css"), listed("index.html")])
    first_difference(tree("a.css", "index.html").objects, pages, PREFIX, etags_comparable=True)
    assert [item.key for item in pages] == [f"{PREFIX}index.html"]
