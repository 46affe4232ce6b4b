from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from s3sync_agent.cli.agent import main
from tests.statuses import STATUS
from tests.unit.setup.conftest import DEBIAN_NGINX, MemoryHost


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> MemoryHost:
    made = MemoryHost("ID=debian\n", {"/etc/nginx/nginx.conf": DEBIAN_NGINX})
    monkeypatch.setattr("s3sync_agent.cli.setting_up.LocalHost", lambda: made)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.delenv("S3SYNC_SITE", raising=False)
    return made


def setup(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["setup", *arguments], prog_name="s3sync-agent")
    return result.exit_code, result.stdout, result.stderr


def test_every_step_is_told_and_the_second_time_there_is_nothing_to_do(host: MemoryHost) -> None:
    code, first, _ = setup("--site", "s3://bucket/site")
    assert code == 0
    assert " done  create user and group s3sync-agent\n" in first
    assert setup()[1].splitlines()[-1] == "nothing to do"
    assert " done  remove /var/lib/s3sync-agent\n" in setup("--remove")[1]


def test_only_looking_needs_no_root(host: MemoryHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, _, errors = setup("--site", "s3://bucket/site")
    assert (code, host.ran) == (2, [])
    assert errors.startswith("error: setup needs root\nhint: ")
    code, told, _ = setup("--site", "s3://bucket/site", "--dry-run")
    assert (code, host.ran) == (0, [])
    assert "would  create user and group s3sync-agent\n" in told


def test_a_second_site_has_a_name_and_hosts_and_is_removed_by_its_name(host: MemoryHost) -> None:
    assert setup("--site", "s3://bucket/site")[0] == 0
    code, told, _ = setup(
        "--site", "s3://bucket/blog", "--name", "blog", "--host", "a.example.com", "--host", "b.a"
    )
    assert code == 0
    assert " done  enable and start s3sync-agent@blog.service\n" in told
    assert b"server_name a.example.com b.a;" in host.files[Path("/etc/nginx/conf.d/s3sync-blog.conf")]
    code, told, _ = setup("--remove", "--name", "blog")
    assert " done  remove /var/lib/s3sync-agent-blog\n" in told
    assert host.active == {"s3sync-agent.service", "nginx.service"}


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--host", "a.example.com"), "a site without a name answers to every host"),
        (("--name", "Blog", "--host", "a.example.com"), "'Blog' cannot be the name of a site here"),
        (("--name", "blog", "--host", "a;b"), "'a;b' is no host name"),
    ],
)
def test_a_wrong_name_or_host_is_refused_before_anything_is_done(
    host: MemoryHost, arguments: tuple[str, ...], fault: str
) -> None:
    code, told, errors = setup("--site", "s3://bucket/site", *arguments)
    assert (code, told, host.ran, host.writes) == (2, "", [], 0)
    assert errors.startswith(f"error: {fault}\nhint: ")


def test_what_nginx_said_is_shown_without_its_control_characters(host: MemoryHost) -> None:
    host.nginx_says = "[emerg] in line 3\n\x1b[2Jsecond line"
    code, _, errors = setup("--site", "s3://bucket/site")
    assert code == 2
    assert "everything was put back:\n  [emerg] in line 3\n" in errors
    assert "\x1b" not in errors


def test_waiting_for_a_site_that_was_not_named_is_refused_before_anything_is_done(host: MemoryHost) -> None:
    code, _, errors = setup("--wait", "5")
    assert (code, host.ran) == (2, [])
    assert errors.startswith("error: --wait needs to know for what\nhint: --site ")


def test_it_waits_when_all_is_set_up_and_fails_when_nothing_is_served(
    host: MemoryHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["HTTP Error 503: Service Unavailable", ""])
    monkeypatch.setattr("s3sync_agent.setup.first_release.ask_nginx", lambda _host: next(answers))
    monkeypatch.setattr("s3sync_agent.cli.setting_up.read_status", lambda _paths: STATUS)
    code, _, errors = setup("--site", STATUS.site, "--wait", "0")
    assert code == 2
    assert errors.startswith("error: /healthz: HTTP Error 503")
    assert "s3sync-agent.service" in host.enabled
    code, told, _ = setup("--site", STATUS.site, "--wait", "0")
    assert (code, told.splitlines()[-1]) == (0, f"   ok  {STATUS.site} is served")
