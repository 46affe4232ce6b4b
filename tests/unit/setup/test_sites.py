"""Several sites on one machine: what each has of its own, and what goes with the last."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from s3sync_agent.errors import ConfigError, SetupFailed
from s3sync_agent.layout import MachinePaths
from s3sync_agent.settings import load
from s3sync_agent.setup.config_file import config_text
from s3sync_agent.setup.host import Directory, Ran
from s3sync_agent.setup.steps import shipped_unit
from tests.unit.setup.conftest import SERVICE, MemoryHost, set_up

BLOG = MachinePaths("blog")
SHOP = MachinePaths("shop-2")
HOSTS = ("blog.example.com", "www.blog.example.com")
TEMPLATE = Path("/etc/systemd/system/s3sync-agent@.service")
USER = "s3sync-agent"


def add(host: MemoryHost, paths: MachinePaths) -> list[tuple[str, str]]:
    return [*set_up(host, paths=paths, hosts=[f"{paths.name}.example.com"])]


def has_default_server(host: MemoryHost) -> bool:
    active = [line for line in host.files[Path("/etc/nginx/nginx.conf")].splitlines() if b"#" not in line]
    debian = Path("/etc/nginx/sites-enabled/default") in host.links
    return debian or any(b"listen       80;" in line for line in active)


def test_a_site_with_a_name_has_its_own_places_service_and_server(host: MemoryHost) -> None:
    set_up(host, paths=BLOG, hosts=HOSTS)
    assert host.directories[Path("/var/lib/s3sync-agent-blog")] == Directory(0o755, USER)
    assert host.files[TEMPLATE] == shipped_unit(TEMPLATE.name)
    assert {"s3sync-agent@blog.service", "nginx.service"} == host.enabled == host.active
    assert tomllib.loads(host.files[Path("/etc/s3sync-agent/blog/config.toml")].decode()) == {
        "site": "s3://bucket/site",
        "source": "pointer",
        "state_dir": "/var/lib/s3sync-agent-blog",
        "run_dir": "/run/s3sync-agent-blog",
    }
    server = host.files[Path("/etc/nginx/conf.d/s3sync-blog.conf")].decode()
    assert "server_name blog.example.com www.blog.example.com;" in server
    assert "listen 80;" in server
    assert not has_default_server(host)
    assert Path("/etc/systemd/system/s3sync-agent.service") not in host.files


def test_its_settings_are_the_agents_with_nothing_but_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(config_text("s3://bucket/site", "pointer", BLOG))
    settings = load(config=file, environ={})
    assert (settings.state_dir, settings.run_dir) == (BLOG.state_dir, BLOG.run_dir)


def test_a_second_site_leaves_the_first_alone(host: MemoryHost) -> None:
    set_up(host)
    before = dict(host.files)
    add(host, BLOG)
    assert {path: host.files[path] for path in before} == before
    assert {SERVICE, BLOG.service} <= host.active


def test_a_second_run_without_hosts_has_nothing_to_do(host: MemoryHost) -> None:
    set_up(host, paths=BLOG, hosts=HOSTS)
    before = host.state()
    assert {outcome for outcome, _ in set_up(host, paths=BLOG, site=None)} == {"ok"}
    assert host.state() == before


def test_other_hosts_take_the_place_of_the_former(host: MemoryHost) -> None:
    set_up(host, paths=BLOG, hosts=HOSTS)
    set_up(host, paths=BLOG, hosts=["other.example.com"])
    assert b"server_name other.example.com;" in host.files[BLOG.nginx]


def test_a_changed_template_restarts_every_site_that_runs_from_it(host: MemoryHost) -> None:
    add(host, BLOG)
    add(host, SHOP)
    host.files[TEMPLATE] = b"[Unit]\n"
    host.ran = []
    set_up(host, paths=BLOG)
    assert host.ran == ["systemctl daemon-reload", "systemctl try-restart --no-block s3sync-agent@*.service"]


def test_a_new_site_has_to_be_told_its_hosts(host: MemoryHost) -> None:
    with pytest.raises(ConfigError, match=r"there is no .*s3sync-blog\.conf yet") as failed:
        set_up(host, paths=BLOG)
    assert "--host" in failed.value.hint


def test_two_sites_cannot_answer_to_one_host(host: MemoryHost) -> None:
    """nginx itself would take the first and only warn."""
    add(host, BLOG)
    warned_of(host, "shop-2.example.com")
    with pytest.raises(SetupFailed, match="conflicting server name"):
        add(host, SHOP)
    assert SHOP.nginx not in host.files


def test_what_others_have_twice_is_their_own_affair(host: MemoryHost) -> None:
    warned_of(host, "theirs.example.com")
    add(host, SHOP)
    assert SHOP.service in host.active


def warned_of(host: MemoryHost, name: str) -> None:
    """nginx says this from now on, and that all is well; tests/integration/test_sites.py has it said so."""
    ask = host.ask
    warning = f'nginx: [warn] conflicting server name "{name}" on 0.0.0.0:80, ignored\nsyntax is ok'
    host.ask = lambda *command: Ran(0, warning) if command == ("nginx", "-t") else ask(*command)  # type: ignore[method-assign]  # an nginx that warns


@pytest.mark.parametrize("order", [(BLOG, SHOP, None), (None, SHOP, BLOG), (SHOP, None, BLOG)])
def test_removing_takes_one_site_away_and_with_the_last_all_that_they_shared(
    host: MemoryHost, order: tuple[MachinePaths | None, ...]
) -> None:
    was_there = set(host.files)
    set_up(host)
    add(host, BLOG)
    add(host, SHOP)
    sites = [MachinePaths() if paths is None else paths for paths in order]
    for number, leaving in enumerate(sites):
        set_up(host, remove=True, paths=leaving)
        left = sites[number + 1 :]
        assert {paths.service for paths in left} == host.active - {"nginx.service"}
        for paths in left:
            assert {paths.config, paths.nginx, paths.unit} <= host.files.keys()
            assert paths.state_dir in host.directories
        assert has_default_server(host) == (not left)
        assert (USER in host.users) == bool(left)
        assert (Path("/etc/systemd/system/nginx.service.d/s3sync.conf") in host.files) == bool(left)
        assert (TEMPLATE in host.files) == any(paths.name for paths in left)
    assert set(host.files) == was_there
    assert host.directories == {}


def test_removing_a_site_twice_has_nothing_to_do_while_another_is_there(host: MemoryHost) -> None:
    add(host, BLOG)
    add(host, SHOP)
    set_up(host, remove=True, paths=SHOP)
    before = host.state()
    assert {outcome for outcome, _ in set_up(host, remove=True, paths=SHOP)} == {"ok"}
    assert host.state() == before


def test_selinux_lets_nginx_read_each_sites_directories(amazon: MemoryHost) -> None:
    amazon.selinux = "Enforcing"
    set_up(amazon)
    add(amazon, BLOG)
    assert [rule.split()[0] for rule in amazon.rules] == [
        "/var/lib/s3sync-agent(/.*)?",
        "/run/s3sync-agent(/.*)?",
        "/var/lib/s3sync-agent-blog(/.*)?",
        "/run/s3sync-agent-blog(/.*)?",
    ]
    set_up(amazon, remove=True)
    assert len(amazon.rules) == 2
