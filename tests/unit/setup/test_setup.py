from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from s3sync_agent import nginx
from s3sync_agent.errors import ConfigError, SetupFailed
from s3sync_agent.setup.config_file import config_text
from s3sync_agent.setup.distributions import BY_ID, detect
from s3sync_agent.setup.host import Directory, Ran
from s3sync_agent.setup.steps import CURRENT, ON_PATH, shipped_unit
from s3sync_agent.setup.web_server import with_default_server, without_default_server
from tests.releases import SITE
from tests.unit.setup.conftest import AMAZON_NGINX, DEBIAN_NGINX, ONLY_SITE, SERVICE, MemoryHost, set_up

CONFIG = Path("/etc/s3sync-agent/config.toml")
UNIT = Path("/etc/systemd/system/s3sync-agent.service")
STATE = Path("/var/lib/s3sync-agent")
OURS = Path("/etc/nginx/conf.d/s3sync.conf")
MAIN = Path("/etc/nginx/nginx.conf")
DEFAULT_SITE = Path("/etc/nginx/sites-enabled/default")


def outcomes(told: Sequence[tuple[str, str]]) -> set[str]:
    return {outcome for outcome, _ in told}


# --------------------------------------------------------------------------- as a whole


def test_a_bare_machine_gets_everything(host: MemoryHost) -> None:
    told = set_up(host)
    assert "done" in outcomes(told)
    assert host.users == {"s3sync-agent"}
    assert host.directories[STATE] == Directory(0o755, "s3sync-agent")
    assert host.files[UNIT] == shipped_unit(SERVICE)
    assert host.files[OURS] == nginx.shipped().encode()
    assert tomllib.loads(host.files[CONFIG].decode()) == {"site": SITE.url, "source": "pointer"}
    assert {SERVICE, "nginx.service"} == host.enabled == host.active


def test_a_second_run_has_nothing_to_do_and_does_nothing(host: MemoryHost) -> None:
    set_up(host)
    before, host.ran, host.writes = host.state(), [], 0
    assert outcomes(set_up(host)) == {"ok"}
    assert (host.state(), host.ran, host.writes) == (before, [], 0)


def test_a_dry_run_tells_the_same_and_changes_nothing(host: MemoryHost) -> None:
    before = host.state()
    would = set_up(host, dry_run=True)
    assert outcomes(would) == {"ok", "would"}
    assert (host.state(), host.ran, host.writes) == (before, [], 0)
    done = set_up(host)
    assert [text for _, text in done] == [text for _, text in would]


def test_removing_gives_the_machine_back_as_it_was(host: MemoryHost) -> None:
    before = host.state()
    set_up(host)
    set_up(host, remove=True)
    host.enabled.discard("nginx.service")
    host.active.discard("nginx.service")
    if DEFAULT_SITE in host.links:  # Debian starts it itself
        host.enabled.add("nginx.service")
        host.active.add("nginx.service")
    assert host.state() == before
    assert "rmdir --ignore-fail-on-non-empty /etc/s3sync-agent/config.d /etc/s3sync-agent" in host.ran


def test_removing_takes_what_the_boot_script_wrote_and_keeps_what_somebody_else_did(
    host: MemoryHost,
) -> None:
    set_up(host)
    somebodys = ONLY_SITE.fragments / "often.toml"
    host.files |= {ONLY_SITE.user_data: b'identity = "AROA:i-1"\n', somebodys: b"poll_interval = 1\n"}
    assert ("done", f"remove {ONLY_SITE.user_data}") in set_up(host, remove=True)
    assert ONLY_SITE.user_data not in host.files
    assert somebodys in host.files


def test_removing_twice_or_from_a_bare_machine_has_nothing_to_do(host: MemoryHost) -> None:
    assert outcomes(set_up(host, remove=True)) == {"ok"}
    assert host.ran == []


def test_a_run_that_failed_is_gone_on_with_by_the_next(host: MemoryHost) -> None:
    host.nginx_says = "[emerg] somebody else's mistake"
    with pytest.raises(SetupFailed):
        set_up(host)
    host.nginx_says = ""
    told = set_up(host)
    assert ("ok", "user s3sync-agent exists") in told
    assert SERVICE in host.active


@pytest.mark.parametrize("missing", ["nginx", "systemctl"])
def test_a_machine_that_lacks_something_is_not_begun_with(host: MemoryHost, missing: str) -> None:
    ask = host.ask
    host.ask = lambda *command: ask("getent", "passwd", "nobody") if command[0] == missing else ask(*command)  # type: ignore[method-assign]  # this test's fault
    before = host.state()
    with pytest.raises(SetupFailed, match=r"nginx is not installed|there is no systemd") as failed:
        set_up(host)
    assert failed.value.hint
    assert host.state() == before


def test_the_agent_has_to_be_installed_before(host: MemoryHost) -> None:
    del host.files[Path("/opt/s3sync-agent/bin/s3sync-agent")]
    with pytest.raises(SetupFailed, match="which the service starts, is not there") as failed:
        set_up(host)
    assert ".pyz" in failed.value.hint
    assert host.ran == []


def test_what_the_unit_starts_is_what_setup_looks_for() -> None:
    assert b"\nExecStart=/opt/s3sync-agent/bin/s3sync-agent run\n" in shipped_unit(SERVICE)


def test_operators_find_the_command_and_somebody_elses_stays(host: MemoryHost) -> None:
    set_up(host)
    assert host.links[ON_PATH] == "/opt/s3sync-agent/bin/s3sync-agent"
    set_up(host, remove=True)
    assert ON_PATH not in host.links
    host.links[ON_PATH] = "/home/me/.venv/bin/s3sync-agent"
    assert ("ok", f"{ON_PATH} is not ours and is kept") in set_up(host)
    set_up(host, remove=True)
    assert host.links[ON_PATH] == "/home/me/.venv/bin/s3sync-agent"


# ------------------------------------------------------------------------ distributions


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ('ID="amzn"\nID_LIKE="fedora"\n', "Amazon Linux 2023"),
        ("ID=debian\n", "Debian or Ubuntu"),
        ("ID=ubuntu\nID_LIKE=debian\n", "Debian or Ubuntu"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', "Debian or Ubuntu"),
    ],
)
def test_a_distribution_is_known_by_its_own_file(release: str, name: str) -> None:
    assert detect(MemoryHost(release, {})).name == name


@pytest.mark.parametrize("release", ["ID=arch\n", "", "\x1b[2J\n"])
def test_an_unknown_distribution_is_refused(release: str) -> None:
    with pytest.raises(ConfigError, match="does not know this distribution"):
        detect(MemoryHost(release, {}))


def test_users_who_never_log_in_have_the_shell_of_their_distribution(host: MemoryHost) -> None:
    set_up(host)
    (command,) = [command for command in host.ran if command.startswith("useradd")]
    assert "--system --user-group --no-create-home" in command
    assert f"--shell {detect(host).no_shell} s3sync-agent" in command
    assert {row.no_shell for row in BY_ID.values()} == {"/sbin/nologin", "/usr/sbin/nologin"}


# ------------------------------------------------------------------ directories, config


def test_a_directory_with_another_owner_or_mode_is_corrected(host: MemoryHost) -> None:
    host.directories[STATE] = Directory(0o700, "root")
    told = set_up(host)
    assert ("done", f"correct {STATE} (mode 0755, owner s3sync-agent)") in told
    assert host.directories[STATE] == Directory(0o755, "s3sync-agent")


def test_a_link_in_place_of_the_state_directory_is_given_to_nobody(host: MemoryHost) -> None:
    host.links[STATE] = "/etc"
    with pytest.raises(SetupFailed, match="is no directory"):
        set_up(host)


def test_an_existing_configuration_is_kept_and_differences_are_told(host: MemoryHost) -> None:
    mine = b'site = "s3://bucket/other"\nsource = "plain"\npoll_interval = 9\n'
    host.files[CONFIG] = mine
    text = next(text for _, text in set_up(host) if "config.toml is kept" in text)
    assert f'site is "s3://bucket/other" there, not "{SITE.url}"' in text
    assert 'source is "plain" there, not "pointer"' in text
    assert host.files[CONFIG] == mine
    set_up(host, remove=True)
    assert host.files[CONFIG] == mine, "what an operator wrote is not setup's to remove"


def test_without_a_site_and_without_a_configuration_it_asks_for_one(host: MemoryHost) -> None:
    with pytest.raises(ConfigError, match=r"there is no /etc/s3sync-agent/config\.toml yet"):
        set_up(host, site=None)
    host.files[CONFIG] = config_text(SITE.url, "pointer", ONLY_SITE).encode()
    set_up(host, site=None)
    assert SERVICE in host.active


def test_a_configuration_that_is_no_toml_is_named_and_not_replaced(host: MemoryHost) -> None:
    host.files[CONFIG] = b"site = \n"
    with pytest.raises(ConfigError, match=r"config\.toml cannot be read"):
        set_up(host)


@pytest.mark.parametrize("site", ["s3://b/it's", 's3://b/say "hi"', "s3://b/größe", "s3://b/\U0001f600"])
def test_any_site_survives_being_written_down(site: str) -> None:
    assert tomllib.loads(config_text(site, "pointer", ONLY_SITE))["site"] == site


# ------------------------------------------------------------------------------ service


def test_a_changed_unit_is_installed_and_the_service_restarted(host: MemoryHost) -> None:
    set_up(host)
    host.files[UNIT] = b"[Unit]\n"
    host.ran = []
    set_up(host)
    assert host.files[UNIT] == shipped_unit(SERVICE)
    assert host.ran == ["systemctl daemon-reload", f"systemctl try-restart --no-block {SERVICE}"]


def test_a_unit_that_systemd_has_not_read_again_is_loaded(host: MemoryHost) -> None:
    set_up(host)
    host.stale = {SERVICE}
    assert ("done", f"load {UNIT}") in set_up(host)


def test_a_service_that_runs_the_former_bundle_is_restarted(host: MemoryHost) -> None:
    set_up(host)
    host.main_pid = "4711"
    host.links[CURRENT] = "1.1.0-bbbbbbbbbbbb"
    host.files[Path("/proc/4711/cmdline")] = b"/opt/s3sync-agent/1.1.0-bbbbbbbbbbbb/bin/python\0run\0"
    assert outcomes(set_up(host)) == {"ok"}
    host.files[Path("/proc/4711/cmdline")] = b"/opt/s3sync-agent/1.0.0-aaaaaaaaaaaa/bin/python\0run\0"
    host.ran = []
    assert ("done", f"restart {SERVICE} with the version installed now") in set_up(host)
    assert f"systemctl restart --no-block {SERVICE}" in host.ran


# -------------------------------------------------------------------------------- nginx


def test_debians_default_site_goes_and_comes_back(debian: MemoryHost) -> None:
    set_up(debian)
    assert DEFAULT_SITE not in debian.links
    assert debian.files[MAIN].decode() == DEBIAN_NGINX
    set_up(debian, remove=True)
    assert debian.links[DEFAULT_SITE] == "/etc/nginx/sites-available/default"


def test_amazons_default_server_is_commented_out_and_comes_back(amazon: MemoryHost) -> None:
    set_up(amazon)
    active = [line for line in amazon.files[MAIN].decode().splitlines() if not line.lstrip().startswith("#")]
    assert [line.strip() for line in active if line] == [
        "user nginx;",
        "http {",
        "include /etc/nginx/conf.d/*.conf;",
        "}",
    ]
    set_up(amazon, remove=True)
    assert amazon.files[MAIN].decode() == AMAZON_NGINX


def test_a_server_on_another_port_is_left_alone() -> None:
    other = "http {\n  server {\n    listen 8080;\n  }\n  server {\n    listen 127.0.0.1:8000;\n  }\n}\n"
    assert without_default_server(other) == other


@pytest.mark.parametrize(
    "listen", ["80", "80 default_server", "[::]:80", "0.0.0.0:80", "80 default_server reuseport"]
)
def test_every_way_of_listening_on_port_80_is_seen(listen: str) -> None:
    text = f"http {{\n  server {{\n    listen {listen};\n  }}\n  server {{ listen 8080; }}\n}}\n"
    changed = without_default_server(text)
    assert f"#s3sync#     listen {listen};" in changed
    assert "\n  server { listen 8080; }\n" in changed
    assert without_default_server(changed) == changed
    assert with_default_server(changed) == text


def test_what_nginx_refuses_is_put_back_to_the_byte(host: MemoryHost) -> None:
    host.nginx_says = '[emerg] "gzip" directive is duplicate in /etc/nginx/conf.d/mine.conf:3'
    before = {path: content for path, content in host.files.items() if path.is_relative_to("/etc/nginx")}
    links = dict(host.links) | {ON_PATH: "/opt/s3sync-agent/bin/s3sync-agent"}
    with pytest.raises(SetupFailed, match=r"(?s)everything was put back.*directive is duplicate"):
        set_up(host)
    assert before == {p: content for p, content in host.files.items() if p.is_relative_to("/etc/nginx")}
    assert host.links == links
    assert not any("reload nginx" in command for command in host.ran)


def test_what_nginx_refuses_at_removal_is_put_back_too(host: MemoryHost) -> None:
    set_up(host)
    before = host.state()
    host.nginx_says = "[emerg] no"
    with pytest.raises(SetupFailed, match="put back"):
        set_up(host, remove=True)
    assert host.state() == before


def test_a_disk_that_fills_up_in_between_leaves_nginx_as_it_was(debian: MemoryHost) -> None:
    write = debian.write

    def full(path: Path, content: bytes) -> None:
        if path == OURS:
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    debian.write = full  # type: ignore[method-assign]  # a disk that is full
    with pytest.raises(SetupFailed, match="No space left"):
        set_up(debian)
    assert DEFAULT_SITE in debian.links
    assert OURS not in debian.files


def test_whoever_interrupts_while_nginx_checks_leaves_its_configuration_as_it_was(host: MemoryHost) -> None:
    before = {path: content for path, content in host.files.items() if path.is_relative_to("/etc/nginx")}
    host.nginx_dies = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        set_up(host)
    assert before == {p: content for p, content in host.files.items() if p.is_relative_to("/etc/nginx")}


def test_what_was_written_before_a_kill_is_taken_by_nginx_at_the_next_run(host: MemoryHost) -> None:
    reload = "systemctl try-reload-or-restart nginx.service"
    run = host.run

    def killed(*command: str) -> Ran:
        if " ".join(command) == reload:
            raise SystemExit
        return run(*command)

    host.run = killed  # type: ignore[method-assign]  # dies there
    with pytest.raises(SystemExit):
        set_up(host)
    host.run = run  # type: ignore[method-assign]
    assert ("done", "let nginx take what an interrupted setup has written") in set_up(host)
    assert reload in host.ran
    assert outcomes(set_up(host)) == {"ok"}


def test_a_site_can_be_removed_after_nginx_was(host: MemoryHost) -> None:
    set_up(host)
    host.nginx = False
    set_up(host, remove=True)
    assert OURS not in host.files
    assert host.users == host.enabled - {"nginx.service"} == set()


def test_removing_does_not_mind_a_folder_that_somebody_removed_before(host: MemoryHost) -> None:
    set_up(host)
    del host.directories[CONFIG.parent / "config.d"]
    set_up(host, remove=True)
    removed = next(
        command for command in host.ran if command.startswith("rmdir") and "s3sync-agent" in command
    )
    assert removed == f"rmdir --ignore-fail-on-non-empty {CONFIG.parent}"


def test_somebodys_own_file_in_place_of_the_default_site_is_not_removed(debian: MemoryHost) -> None:
    del debian.links[DEFAULT_SITE]
    debian.files[DEFAULT_SITE] = b"server { listen 8080; }"
    set_up(debian)
    assert debian.files[DEFAULT_SITE] == b"server { listen 8080; }"


# ------------------------------------------------------------------------------ SELinux


def test_where_selinux_is_in_force_nginx_may_read_the_whole_state_directory(amazon: MemoryHost) -> None:
    amazon.selinux = "Enforcing"
    set_up(amazon)
    assert [rule.split()[0] for rule in amazon.rules] == [
        "/var/lib/s3sync-agent(/.*)?",
        "/run/s3sync-agent(/.*)?",
    ]
    assert all(":httpd_sys_content_t:" in rule for rule in amazon.rules)
    assert "restorecon -R /var/lib/s3sync-agent" in amazon.ran
    assert outcomes(set_up(amazon)) == {"ok"}
    set_up(amazon, remove=True)
    assert amazon.rules == []


def test_enforcing_without_semanage_stops_and_says_what_to_install(amazon: MemoryHost) -> None:
    amazon.selinux, amazon.semanage = "Enforcing", False
    with pytest.raises(SetupFailed) as failed:
        set_up(amazon)
    assert failed.value.hint == "dnf install policycoreutils-python-utils"


def test_where_selinux_only_warns_a_missing_semanage_is_told_and_nothing_more(amazon: MemoryHost) -> None:
    amazon.selinux, amazon.semanage = "Permissive", False
    told = set_up(amazon)
    assert any(outcome == "ok" and "before enforcing: dnf install" in text for outcome, text in told)
    assert SERVICE in amazon.active
