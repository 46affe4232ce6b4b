"""Where the agent's probe asks, on a machine that setup has made."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from s3sync_agent.layout import MachinePaths
from s3sync_agent.settings import load
from s3sync_agent.setup.probe_file import probe_settings
from tests.unit.setup.conftest import ONLY_SITE, MemoryHost, set_up

BLOG = MachinePaths("blog")
FRAGMENT = Path("/etc/s3sync-agent/config.d/00-setup.toml")


def written(host: MemoryHost, paths: MachinePaths = ONLY_SITE) -> dict[str, object]:
    return tomllib.loads(host.files[paths.by_setup].decode())


def test_the_probe_asks_the_port_that_nginx_is_given(host: MemoryHost) -> None:
    set_up(host)
    assert written(host) == {"probe_url": "http://127.0.0.1:80"}
    assert b"listen 80 default_server;" in host.files[ONLY_SITE.nginx]
    assert ONLY_SITE.by_setup == FRAGMENT


def test_a_site_among_several_is_asked_under_its_own_name(host: MemoryHost) -> None:
    set_up(host, paths=BLOG, hosts=["*.blog.example.com", "blog.example.com"])
    assert written(host, BLOG) == {"probe_url": "http://127.0.0.1:80", "probe_host": "blog.example.com"}


def test_a_site_of_any_name_below_another_is_asked_under_one_of_them() -> None:
    assert probe_settings(["*.example.com"])["probe_host"] == "s3sync-probe.example.com"


def test_other_hosts_take_the_place_of_the_former_and_stay_without_being_repeated(host: MemoryHost) -> None:
    set_up(host, paths=BLOG, hosts=["blog.example.com"])
    set_up(host, paths=BLOG, hosts=["other.example.com"])
    set_up(host, paths=BLOG)
    assert written(host, BLOG)["probe_host"] == "other.example.com"


def test_the_agent_takes_what_is_written(tmp_path: Path, host: MemoryHost) -> None:
    set_up(host, paths=BLOG, hosts=["blog.example.com"])
    for path in (BLOG.config, BLOG.by_setup):
        target = tmp_path / path.relative_to(BLOG.config.parent)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(host.files[path])
    settings = load(config=tmp_path / BLOG.config.name, environ={})
    assert (settings.probe_url, settings.probe_host) == ("http://127.0.0.1:80", "blog.example.com")


def test_a_machine_that_was_set_up_before_gets_it_without_a_stop(host: MemoryHost) -> None:
    set_up(host)
    del host.files[FRAGMENT]
    host.ran = []
    assert ("done", f"write {FRAGMENT}") in set_up(host)
    assert host.ran == [], "the agent takes a changed file by itself"


@pytest.mark.parametrize("key", ["probe_url", "probe_host"])
def test_what_the_operator_has_written_counts_more(host: MemoryHost, key: str) -> None:
    set_up(host, paths=BLOG, hosts=["blog.example.com"])
    host.files[BLOG.config] += f'{key} = "theirs"\n'.encode()
    set_up(host, paths=BLOG)
    assert written(host, BLOG).keys() == {"probe_url", "probe_host"} - {key}


def test_where_the_operator_has_written_all_of_it_nothing_is_left_to_say(host: MemoryHost) -> None:
    set_up(host)
    host.files[ONLY_SITE.config] += b'probe_url = "http://127.0.0.1:8080"\n'
    assert ("done", f"remove {FRAGMENT}") in set_up(host)
    assert ("ok", f"{FRAGMENT} is not there") in set_up(host)


def test_it_goes_with_the_site(host: MemoryHost) -> None:
    set_up(host)
    set_up(host, remove=True)
    assert FRAGMENT not in host.files
