"""The steps of setting up, in order. Each looks first and says what it would do; doing is another call.

A step is a function from the host to a Finding. Looking changes nothing, so a dry run is all the
looking without the doing, and a second run finds nothing to do.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path

from s3sync_agent.errors import ConfigError, SetupFailed
from s3sync_agent.layout import DEFAULT_CONFIG, DEFAULT_RUN_DIR, DEFAULT_STATE_DIR, Site
from s3sync_agent.setup.distributions import Distribution
from s3sync_agent.setup.host import Directory, Host

USER = "s3sync-agent"
SERVICE = "s3sync-agent.service"
UNIT = Path("/etc/systemd/system") / SERVICE
CURRENT = Path("/opt/s3sync-agent/current")
COMMAND = Path("/opt/s3sync-agent/bin/s3sync-agent")  # what the unit starts
DIRECTORIES = {
    DEFAULT_STATE_DIR: Directory(0o755, USER),
    DEFAULT_CONFIG.parent: Directory(0o755, "root"),
    DEFAULT_CONFIG.parent / "config.d": Directory(0o755, "root"),
}
# nginx may read what bears this type. A file keeps the type it was created with when it is renamed,
# so staging has it as well.
SELINUX_TYPE = "httpd_sys_content_t"
SELINUX_PATHS = tuple(f"{path}(/.*)?" for path in (DEFAULT_STATE_DIR, DEFAULT_RUN_DIR))


@dataclass(frozen=True, slots=True)
class Finding:
    """What a step found. `do` is None when nothing has to be done; `says` then tells how it is."""

    says: str
    do: Callable[[Host], None] | None = None


Step = Callable[[Host], Finding]


def must(host: Host, *command: str) -> None:
    """Run a command that has to succeed. Raises SetupFailed with what it said."""
    ran = host.run(*command)
    if not ran.ok:
        raise SetupFailed(f"{' '.join(command)} ended with {ran.code}: {ran.output or 'no message'}")


def service_manager(host: Host) -> Finding:
    """Nothing is begun on a machine that could not finish."""
    if not host.ask("systemctl", "--version").ok:
        raise SetupFailed("there is no systemd here", hint="setup is for instances, not for containers")
    if host.read(COMMAND) is None:
        raise SetupFailed(
            f"{COMMAND}, which the service starts, is not there",
            hint="install the agent first: python3.12 s3sync-agent-….pyz",
        )
    return Finding(f"{COMMAND} is installed")


# -------------------------------------------------------------- user, directories, config


def user(distribution: Distribution, host: Host) -> Finding:
    if host.ask("getent", "passwd", USER).ok:
        return Finding(f"user {USER} exists")
    command = (
        "useradd",
        "--system",
        "--user-group",
        "--no-create-home",
        "--home-dir",
        str(DEFAULT_STATE_DIR),
    )
    return Finding(
        f"create user and group {USER}",
        lambda host: must(host, *command, "--shell", distribution.no_shell, USER),
    )


def directory(path: Path, wanted: Directory, host: Host) -> Finding:
    found = host.directory(path)
    if found == wanted:
        return Finding(f"{path} is there")
    verb = "create" if found is None else "correct"
    return Finding(
        f"{verb} {path} (mode {wanted.mode:04o}, owner {wanted.owner})",
        lambda host: host.make_directory(path, wanted),
    )


def config_text(site: str, source: str) -> str:
    """The configuration that setup writes; JSON's strings are TOML's."""
    return (
        "# Written by `s3sync-agent setup`, which never changes it again. Other settings: config.d/*.toml.\n"
        f"site = {json.dumps(site, ensure_ascii=False)}\n"
        f"source = {json.dumps(source)}\n"
    )


def config(site: Site | None, source: str, host: Host) -> Finding:
    """An existing file is the operator's: kept, and what differs from the options is told."""
    existing = host.read(DEFAULT_CONFIG)
    if existing is None:
        if site is None:
            raise ConfigError(
                f"there is no {DEFAULT_CONFIG} yet", hint="name the site: --site s3://bucket/site"
            )
        text = config_text(site.url, source)
        return Finding(f"write {DEFAULT_CONFIG} for {site.url}", partial(_write_config, text))
    try:
        settings = tomllib.loads(existing.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{DEFAULT_CONFIG} cannot be read: {error}", hint="repair or remove it") from error
    asked = {"source": source} if site is None else {"site": site.url, "source": source}
    differs = [
        f"{name} is {json.dumps(settings.get(name), default=str)} there, not {json.dumps(value)}"
        for name, value in asked.items()
        if settings.get(name) != value
    ]
    return Finding("; ".join([f"{DEFAULT_CONFIG} is kept as it is", *differs]))


def _write_config(text: str, host: Host) -> None:
    host.write(DEFAULT_CONFIG, text.encode())
    host.run("systemctl", "try-restart", "--no-block", SERVICE)  # a service that ran without any


def selinux(distribution: Distribution, host: Host) -> Finding:
    """nginx may read the state directory and the sign of health. Where SELinux only warns, so do we."""
    mode = host.ask("getenforce")
    if not mode.ok or mode.output == "Disabled":
        return Finding("SELinux is not in force")
    rules = host.ask("semanage", "fcontext", "--list", "--locallist", "--noheading")
    if rules.code == 127 and mode.output != "Enforcing":
        return Finding(
            f"SELinux is {mode.output.lower()} and semanage is not installed, so files keep their types; "
            f"before enforcing: {distribution.install_semanage}, and call setup again"
        )
    if not rules.ok:
        raise SetupFailed(f"semanage: {rules.output}", hint=distribution.install_semanage)
    missing = [path for path in SELINUX_PATHS if not _has_rule(rules.output, path)]
    if not missing:
        return Finding(f"SELinux lets nginx read {DEFAULT_STATE_DIR}")
    return Finding(f"give {DEFAULT_STATE_DIR} the SELinux type {SELINUX_TYPE}", partial(_label, missing))


def _has_rule(rules: str, path: str) -> bool:
    return any(line.startswith(f"{path} ") and f":{SELINUX_TYPE}:" in line for line in rules.splitlines())


def _label(paths: Iterable[str], host: Host) -> None:
    for path in paths:
        must(host, "semanage", "fcontext", "--add", "--type", SELINUX_TYPE, path)
    must(host, "restorecon", "-R", str(DEFAULT_STATE_DIR))
    host.run("restorecon", "-R", str(DEFAULT_RUN_DIR))  # made by the first start


# ------------------------------------------------------------------------------ service


def shipped_unit(name: str = SERVICE) -> bytes:
    return (resources.files("s3sync_agent") / "data" / "systemd" / name).read_bytes()


def needs_reload(service: str, host: Host) -> bool:
    """Whether systemd still has another text of the service than the disk."""
    return host.ask("systemctl", "show", "--property=NeedDaemonReload", "--value", service).output == "yes"


def unit(host: Host) -> Finding:
    same = host.read(UNIT) == shipped_unit()
    if same and not needs_reload(SERVICE, host):
        return Finding(f"{UNIT} is up to date")
    return Finding(f"{'load' if same else 'install'} {UNIT}", _install_unit)


def _install_unit(host: Host) -> None:
    host.write(UNIT, shipped_unit())
    must(host, "systemctl", "daemon-reload")
    must(host, "systemctl", "try-restart", "--no-block", SERVICE)


def service(host: Host) -> Finding:
    """Enabled, started, running from the current bundle. Not waited for: a first tick may be long."""
    enabled = host.ask("systemctl", "is-enabled", SERVICE).ok
    active = host.ask("systemctl", "is-active", SERVICE).output in {"active", "activating", "reloading"}
    if active and _runs_another_version(host):
        return Finding(f"restart {SERVICE} with the version installed now", _restart)
    if enabled and active:
        return Finding(f"{SERVICE} is enabled and started")
    return Finding(f"enable and start {SERVICE}", _start)


def _runs_another_version(host: Host) -> bool:
    """The interpreter's path is in the command line, and each bundle has its own."""
    home = host.link(CURRENT)
    pid = host.ask("systemctl", "show", "--property=MainPID", "--value", SERVICE).output
    running = (host.read(Path("/proc") / pid / "cmdline") or b"") if pid.isdecimal() and pid != "0" else b""
    if home is None or not running:
        return False
    return not running.startswith(f"{CURRENT.parent / home}/".encode())


def _restart(host: Host) -> None:
    must(host, "systemctl", "enable", SERVICE)
    must(host, "systemctl", "restart", "--no-block", SERVICE)


def _start(host: Host) -> None:
    must(host, "systemctl", "enable", SERVICE)
    must(host, "systemctl", "start", "--no-block", SERVICE)


# -------------------------------------------------------------------------------- removal


def no_service(host: Host) -> Finding:
    if host.read(UNIT) is None:
        return Finding(f"{UNIT} is not there")
    return Finding(f"stop {SERVICE} and remove {UNIT}", _remove_service)


def _remove_service(host: Host) -> None:
    must(host, "systemctl", "disable", "--now", SERVICE)
    host.remove(UNIT)
    must(host, "systemctl", "daemon-reload")


def no_selinux(host: Host) -> Finding:
    rules = host.ask("semanage", "fcontext", "--list", "--locallist", "--noheading")
    there = [path for path in SELINUX_PATHS if rules.ok and _has_rule(rules.output, path)]
    if not there:
        return Finding("no SELinux rule of setup is there")

    def remove(host: Host) -> None:
        for path in there:
            must(host, "semanage", "fcontext", "--delete", path)

    return Finding("remove the SELinux rules", remove)


def no_directory(path: Path, host: Host) -> Finding:
    if host.directory(path) is None:
        return Finding(f"{path} is not there")
    return Finding(f"remove {path}", lambda host: host.remove(path))


def no_config(host: Host) -> Finding:
    """Only what setup wrote and nobody changed is removed."""
    existing = host.read(DEFAULT_CONFIG)
    if existing is None:
        return Finding(f"{DEFAULT_CONFIG} is not there")
    try:
        settings = tomllib.loads(existing.decode())
        untouched = config_text(settings["site"], settings["source"]).encode() == existing
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError):
        untouched = False
    if untouched:
        return Finding(f"remove {DEFAULT_CONFIG}", _remove_config)
    return Finding(f"{DEFAULT_CONFIG} was changed by somebody and is kept")


def _remove_config(host: Host) -> None:
    host.remove(DEFAULT_CONFIG)
    folder = DEFAULT_CONFIG.parent
    must(host, "rmdir", "--ignore-fail-on-non-empty", str(folder / "config.d"), str(folder))


def no_user(host: Host) -> Finding:
    if not host.ask("getent", "passwd", USER).ok:
        return Finding(f"there is no user {USER}")
    return Finding(f"remove user and group {USER}", lambda host: must(host, "userdel", USER))
