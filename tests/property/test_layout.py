from __future__ import annotations

import os
import posixpath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s3sync_agent.errors import ConfigError, UnsafePath
from s3sync_agent.layout import (
    MAX_DEPTH,
    MAX_PATH_BYTES,
    MAX_SEGMENT_BYTES,
    MTIME_BASE,
    MTIME_SPAN,
    RELEASE_ID_PATTERN,
    check_path,
    check_tree,
    check_version,
    escape,
    is_immutable,
    mtime_for,
    parents,
    parse_site,
    release_id,
)
from tests.property.strategies import names, paths, tree_paths, unsafe_paths

ROOT = "/srv/tree"

anything = st.one_of(
    st.text(max_size=300),
    st.lists(st.sampled_from(["a", "..", ".", "", ".s3sync", "b.js", "\\", "\x00", "é"]), max_size=8).map(
        "/".join
    ),
    st.text("ab/._-", min_size=760, max_size=830),
    paths,
    unsafe_paths,
)


@given(anything)
@example("/".join(["a" * 99] * 8))
@example("/".join(["a" * 100] * 8))
def test_a_path_that_is_accepted_stays_inside_the_tree_and_fits_any_file_system(path: str) -> None:
    try:
        check_path(path)
    except UnsafePath:
        return
    assert posixpath.normpath(posixpath.join(ROOT, path)) == f"{ROOT}/{path}"
    assert path.partition("/")[0] != ".s3sync"
    assert "\\" not in path
    assert "\0" not in path
    assert len(os.fsencode(path)) <= MAX_PATH_BYTES
    assert all(len(os.fsencode(segment)) <= MAX_SEGMENT_BYTES for segment in path.split("/"))
    assert path.count("/") < MAX_DEPTH


@given(paths)
def test_ordinary_paths_are_accepted(path: str) -> None:
    assert check_path(path) == path


@given(unsafe_paths)
@example("../x")
@example("a/../../x")
@example("/etc/passwd")
@example("a\0b")
@example("n" * 300)
@example(".s3sync/x")
@example("caf\udce9.html")
@example("..\\x")
@example("/".join("d" * 10_000))
@example("")
@example("a//b")
@example("a/")
def test_unsafe_paths_are_refused_in_one_printable_line(path: str) -> None:
    with pytest.raises(UnsafePath) as refused:
        check_path(path)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1000


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join), max_size=8))
@example(["a", "a/b"])
@example(["a", "a"])
def test_a_tree_is_possible_unless_a_path_is_doubled_or_also_a_directory(tree: list[str]) -> None:
    possible = len(set(tree)) == len(tree) and not any(
        other.startswith(f"{path}/") for path in tree for other in tree
    )
    if possible:
        check_tree(tree)
    else:
        with pytest.raises(UnsafePath):
            check_tree(tree)


@given(paths)
def test_parents_are_every_directory_on_the_way(path: str) -> None:
    found = parents(path)
    assert [*found, path] == [path.rsplit("/", depth)[0] for depth in range(path.count("/"), -1, -1)]


@given(st.text())
def test_escaped_text_is_one_printable_line_and_ordinary_text_stays(text: str) -> None:
    assert escape(text).isprintable()
    assert not text.isprintable() or escape(text) == text


@given(st.from_regex(r"[a-z0-9][a-z0-9.-]{1,20}[a-z0-9]", fullmatch=True), st.just("") | paths)
def test_a_site_is_its_url(bucket: str, prefix: str) -> None:
    site = parse_site(f"s3://{bucket}/{prefix}/")
    assert parse_site(site.url) == site
    for key in (site.pointer, site.manifest("v1"), site.heartbeat("i-1"), site.complete_marker):
        assert key.startswith(f"{prefix}/" if prefix else "")
        assert not key.startswith("/")


@given(st.text(max_size=40))
def test_anything_else_is_no_site(text: str) -> None:
    try:
        site = parse_site(text)
    except ConfigError:
        return
    assert text.startswith("s3://")
    assert site.url == text.rstrip("/")


@given(st.text(max_size=200))
def test_a_version_that_is_accepted_is_one_segment_and_makes_a_release_id(version: str) -> None:
    try:
        check_version(version)
    except UnsafePath:
        return
    assert check_path(version) == version
    assert RELEASE_ID_PATTERN.match(release_id(version, "0" * 64))


@given(st.text("0123456789abcdef", min_size=64, max_size=64))
def test_an_mtime_is_a_moment_between_2001_and_2020_that_only_the_content_decides(sha256: str) -> None:
    assert MTIME_BASE <= mtime_for(sha256) < MTIME_BASE + MTIME_SPAN
    assert mtime_for(sha256) == mtime_for(sha256[:8] + "f" * 56)


@given(tree_paths, names)
def test_a_page_is_never_immutable_whatever_it_is_called(path: str, name: str) -> None:
    assert not is_immutable(f"{path}/{name}-3f2a9c1b.html")


@given(paths)
def test_never_wins_over_extra_and_extra_over_the_rule(path: str) -> None:
    assert is_immutable(path, extra=["*"])
    assert not is_immutable(path, extra=["*"], never=["*"])
