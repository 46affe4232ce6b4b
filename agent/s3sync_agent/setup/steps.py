"""The steps of setting up, in order. Each looks first and says what it would do; doing is another call.

A step is a function from the host to a Finding. Looking changes nothing, so a dry run is all the
looking without the doing, and a second run finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path

from s3sync_agent.errors import SetupFailed
from s3sync_agent.layout import DEFAULT_CONFIG, DEFAULT_STATE_DIR, MachinePaths, sites_here
from s3sync_agent.setup.distributions import Distribution
from s3sync_agent.setup.host import Directory, Host

USER = "s3sync-agent"
CURRENT = Path("/opt/s3sync-agent/current")
COMMAND = Path("/opt/s3sync-agent/bin/s3sync-agent")  # what the unit starts
ON_PATH = Path("/usr/local/bin/s3sync-agent")  # what operators type


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


def command(host: Host) -> Finding:
    """Something of somebody else's under that name stays; the service does not need ours."""
    target = host.link(ON_PATH)
    if target == str(COMMAND):
        return Finding(f"{ON_PATH} is there")
    if target is not None or host.read(ON_PATH) is not None:
        return Finding(f"{ON_PATH} is not ours and is kept")
    return Finding(f"link {ON_PATH} to {COMMAND}", lambda host: host.make_link(ON_PATH, str(COMMAND)))


# ---------------------------------------------------------------------- user, directories


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


def directories(paths: MachinePaths) -> dict[Path, Directory]:
    """In the order in which they have to be made."""
    configuration = dict.fromkeys((DEFAULT_CONFIG.parent, paths.config.parent, paths.fragments))
    return {paths.state_dir: Directory(0o755, USER)} | dict.fromkeys(configuration, Directory(0o755, "root"))


def directory(path: Path, wanted: Directory, host: Host) -> Finding:
    found = host.directory(path)
    if found == wanted:
        return Finding(f"{path} is there")
    verb = "create" if found is None else "correct"
    return Finding(
        f"{verb} {path} (mode {wanted.mode:04o}, owner {wanted.owner})",
        lambda host: host.make_directory(path, wanted),
    )


# ------------------------------------------------------------------------------ service


def shipped_unit(name: str) -> bytes:
    return (resources.files("s3sync_agent") / "data" / "systemd" / name).read_bytes()


def needs_reload(service: str, host: Host) -> bool:
    """Whether systemd still has another text of the service than the disk."""
    return host.ask("systemctl", "show", "--property=NeedDaemonReload", "--value", service).output == "yes"


def unit(paths: MachinePaths, host: Host) -> Finding:
    same = host.read(paths.unit) == shipped_unit(paths.unit.name)
    if same and not needs_reload(paths.service, host):
        return Finding(f"{paths.unit} is up to date")
    return Finding(f"{'load' if same else 'install'} {paths.unit}", partial(_install_unit, paths))


def _install_unit(paths: MachinePaths, host: Host) -> None:
    host.write(paths.unit, shipped_unit(paths.unit.name))
    must(host, "systemctl", "daemon-reload")
    must(host, "systemctl", "try-restart", "--no-block", paths.services)


def service(paths: MachinePaths, host: Host) -> Finding:
    """Enabled, started, running from the current bundle. Not waited for: a first tick may be long."""
    enabled = host.ask("systemctl", "is-enabled", paths.service).ok
    active = host.ask("systemctl", "is-active", paths.service).output in {"active", "activating", "reloading"}
    if active and _runs_another_version(paths, host):
        return Finding(
            f"restart {paths.service} with the version installed now", partial(_begin, "restart", paths)
        )
    if enabled and active:
        return Finding(f"{paths.service} is enabled and started")
    return Finding(f"enable and start {paths.service}", partial(_begin, "start", paths))


def _runs_another_version(paths: MachinePaths, host: Host) -> bool:
    """The interpreter's path is in the command line, and each bundle has its own."""
    home = host.link(CURRENT)
    pid = host.ask("systemctl", "show", "--property=MainPID", "--value", paths.service).output
    running = (host.read(Path("/proc") / pid / "cmdline") or b"") if pid.isdecimal() and pid != "0" else b""
    if home is None or not running:
        return False
    return not running.startswith(f"{CURRENT.parent / home}/".encode())


def _begin(verb: str, paths: MachinePaths, host: Host) -> None:
    must(host, "systemctl", "enable", paths.service)
    must(host, "systemctl", verb, "--no-block", paths.service)


# -------------------------------------------------------------------------------- removal


def others(paths: MachinePaths, host: Host) -> set[str]:
    """The names of the other sites of this machine; "" is the one without."""
    return sites_here(host.entries(DEFAULT_STATE_DIR.parent)) - {paths.name}


def no_service(paths: MachinePaths, host: Host) -> Finding:
    """The unit goes with the last site that needs it."""
    if host.read(paths.unit) is None:
        return Finding(f"{paths.unit} is not there")
    needed = bool(paths.name and others(paths, host) - {""})
    if needed and not host.ask("systemctl", "is-enabled", paths.service).ok:
        return Finding(f"{paths.service} is not enabled")
    says = f"stop {paths.service}" if needed else f"stop {paths.service} and remove {paths.unit}"
    return Finding(says, partial(_remove_service, paths, keep_unit=needed))


def _remove_service(paths: MachinePaths, host: Host, *, keep_unit: bool) -> None:
    must(host, "systemctl", "disable", "--now", paths.service)
    if not keep_unit:
        host.remove(paths.unit)
        must(host, "systemctl", "daemon-reload")


def no_directory(path: Path, host: Host) -> Finding:
    if host.directory(path) is None:
        return Finding(f"{path} is not there")
    return Finding(f"remove {path}", lambda host: host.remove(path))


def no_command(paths: MachinePaths, host: Host) -> Finding:
    if host.link(ON_PATH) != str(COMMAND):
        return Finding(f"{ON_PATH} is not there")
    if others(paths, host):
        return Finding(f"{ON_PATH} stays for the other sites")
    return Finding(f"remove {ON_PATH}", lambda host: host.remove(ON_PATH))


def no_user(paths: MachinePaths, host: Host) -> Finding:
    if not host.ask("getent", "passwd", USER).ok:
        return Finding(f"there is no user {USER}")
    if others(paths, host):
        return Finding(f"user {USER} stays for the other sites")
    return Finding(f"remove user and group {USER}", lambda host: must(host, "userdel", USER))
