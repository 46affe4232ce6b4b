"""What `make` hands on from pip's configuration to uv, which does not read it."""

from __future__ import annotations

from scripts.bootstrap import uv_environment


def test_nothing_is_handed_on_where_pip_was_told_nothing() -> None:
    assert uv_environment({}) == {}


def test_a_mirror_takes_the_place_of_the_public_index() -> None:
    assert uv_environment({"index-url": "https://mirror.example/simple"}) == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple"
    }


def test_several_values_are_separated_as_uv_wants_them() -> None:
    # `pip config list` shows the line breaks of a configuration file as two characters.
    two = "\\n/first\\n/second"
    assert uv_environment({"extra-index-url": two, "find-links": "/first /second"}) == {
        "UV_INDEX": "/first /second",
        "UV_FIND_LINKS": "/first,/second",
    }


def test_what_uv_has_no_word_for_is_left_out() -> None:
    assert uv_environment({"timeout": "180", "disable-pip-version-check": "1"}) == {}
