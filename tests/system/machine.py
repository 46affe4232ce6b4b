"""One machine: a real Debian under a real systemd, which can be asked, visited and treated badly."""

from __future__ import annotations

import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.nginx_process import Answer, ask
from tests.system import cgroups, rootfs
from tests.system.network import Cable, Hub, cable

BOOT_SECONDS = 60.0
RUN_SECONDS = 60.0
STOP_SECONDS = 20.0
BOOT_SCRIPT = "/var/lib/cloud/instance/scripts/part-001"  # the user data, where cloud-init keeps it

# systemd sets up its own services' groups, also those that the kernel has in the old way.
_INIT = """
for each in memory pids cpu cpuacct blkio; do
    [ ! -d /sys/fs/cgroup/$each ] || mount -o remount,bind,rw /sys/fs/cgroup/$each
done
exec /lib/systemd/systemd
"""
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
}


class Machine:
    """Files can be laid down through `root` whether it runs or not, except in its `/run` and `/tmp`."""

    def __init__(self, number: int, *, base: Path, directory: Path, hub: Hub, resources: ExitStack) -> None:
        self.name = f"s3sync-m{number}"
        self._hub = hub
        self._console = directory / f"{self.name}.console"
        self.cable: Cable = resources.enter_context(cable(number))
        self.root: Path = resources.enter_context(rootfs.overlay(base, directory / self.name))
        self._group = resources.enter_context(cgroups.group(self.name))
        resources.callback(self._forget)
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init = 0
        (self.root / "etc/hostname").write_text(f"{self.name}\n")

    @property
    def address(self) -> str:
        return self.cable.address

    # ------------------------------------------------------------------- power

    def start(self) -> float:
        """Until systemd says `running` (everything started that should); the seconds that took."""
        started = time.monotonic()
        self.switch_on()
        self._until(self.is_running, BOOT_SECONDS, "until it was running")
        return time.monotonic() - started

    def switch_on(self) -> None:
        """Until commands can be run; what the machine does at boot has only begun."""
        assert self._nspawn is None, f"{self.name} is on"
        command = [
            *("systemd-nspawn", "--quiet", f"--machine={self.name}", f"--directory={self.root}"),
            *("--register=no", "--keep-unit", "--link-journal=no", "--resolv-conf=off", "--console=pipe"),
            # All a machine's root may do, for the sandbox of its services to take away.
            *("--capability=all", "--system-call-filter=bpf keyctl add_key"),
            *(f"--network-namespace-path={self.cable.namespace}", "--kill-signal=SIGRTMIN+3"),
            *("/bin/sh", "-c", _INIT),
        ]
        with self._console.open("ab") as console:
            self._nspawn = subprocess.Popen(
                self._group.command(*command),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        self._until(self._takes_commands, BOOT_SECONDS, "until it took commands")

    def stop(self) -> None:
        """Shut down, as an instance that is terminated."""
        self._signal_and_wait(signal.SIGTERM)

    def reboot(self) -> float:
        """Seconds from the command to `running` again."""
        started = time.monotonic()
        self.run("systemctl reboot")
        self._wait_off()
        self.start()
        return time.monotonic() - started

    def power_cut(self) -> None:
        """Everything ends at once and nothing can say goodbye. It is off until `start`."""
        subprocess.run(["kill", "-KILL", str(self._init)], check=True, timeout=10)
        self._wait_off()

    # ------------------------------------------------------------------- asking

    def run(
        self, command: str, *, check: bool = True, seconds: float = RUN_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """A shell command as the machine's root. With `check` it has to succeed."""
        environment = [f"{name}={value}" for name, value in _ENVIRONMENT.items()]
        inside = ["nsenter", f"--target={self._init}", "--all", "--", "env", "-i", *environment]
        done = subprocess.run(
            [*inside, "/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{self.name}: `{command}` ended with {done.returncode}: {_said(done)}")
        return done

    def http(self, path: str, **options: Any) -> Answer:
        """One visit from the hub; OSError when nobody answers."""
        return self._hub.call(_visit, self.address, path, **options)

    def journal(self, unit: str) -> str:
        return self.run(f"journalctl --no-pager --output=cat --unit={shlex.quote(unit)}").stdout

    def unit(self, name: str, property_: str) -> str:
        """A property of a unit, as `systemctl show` has it."""
        return self.run(f"systemctl show --value --property={property_} {shlex.quote(name)}").stdout.strip()

    def is_running(self) -> bool:
        """Whether everything was started at boot. AssertionError when something failed."""
        state = self._state()
        if state in ("degraded", "maintenance"):
            why = self.run("systemctl --failed --no-legend --plain; journalctl -b -p warning --no-pager")
            raise AssertionError(f"{self.name} booted to {state}: {why.stdout}")
        return state == "running"

    def wait_until(self, reached: Callable[[], bool], what: str, *, seconds: float = 30.0) -> float:
        """Until `reached()`; the seconds that took. A refused connection is a "not yet"."""
        return self._until(lambda: _quietly(reached), seconds, what)

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    # ------------------------------------------------------------------- inside

    def _takes_commands(self) -> bool:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            raise AssertionError(f"{self.name} went off while booting:\n{self._console_tail()}")
        self._init = _child_of(self._nspawn.pid, "systemd") or 0
        return bool(self._init) and self._state() != ""

    def _state(self) -> str:
        """As systemd has it: initializing, starting, running …; "" before it can be asked."""
        said = self.run("systemctl is-system-running", check=False).stdout.strip()
        return "" if said in ("offline", "unknown") else said

    def _until(self, reached: Callable[[], bool], seconds: float, what: str) -> float:
        started = time.monotonic()
        while not reached():
            if time.monotonic() - started > seconds:
                jobs = self.run("systemctl list-jobs", check=False).stdout if self._init else ""
                raise AssertionError(
                    f"{self.name}: waited {seconds:.0f} s {what}\n{jobs}\nconsole:\n{self._console_tail()}"
                )
            time.sleep(0.02)
        return time.monotonic() - started

    def _signal_and_wait(self, number: signal.Signals) -> None:
        assert self._nspawn is not None, f"{self.name} is off"
        self._nspawn.send_signal(number)
        self._wait_off()

    def _wait_off(self) -> None:
        assert self._nspawn is not None, f"{self.name} is off"
        self._nspawn.wait(timeout=STOP_SECONDS)
        self._nspawn = None

    def _forget(self) -> None:
        """Without a goodbye: nobody will look at it again. Removes what nspawn leaves."""
        if self._nspawn is not None and self._nspawn.poll() is None:
            if self._init:
                subprocess.run(["kill", "-KILL", str(self._init)], check=False, timeout=10)
            else:
                self._nspawn.kill()
            self._nspawn.wait(timeout=STOP_SECONDS)
        forget_propagation(self.name)

    def _console_tail(self) -> str:
        return self._console.read_text(errors="replace")[-2000:]


def forget_propagation(name: str) -> None:
    """nspawn keeps an empty directory for every machine that ever was."""
    directory = Path("/run/systemd/nspawn/propagate") / name
    if directory.is_dir():
        directory.rmdir()


def _child_of(pid: int, name: str) -> int | None:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        found = [int(each) for each in children if Path(f"/proc/{each}/comm").read_text().strip() == name]
    except FileNotFoundError:
        return None
    return found[0] if found else None


def _visit(address: str, path: str, **options: Any) -> Answer:
    connection = HTTPConnection(address, 80, timeout=10)
    try:
        return ask(connection, path, **options)
    finally:
        connection.close()


def _quietly(reached: Callable[[], bool]) -> bool:
    try:
        return reached()
    except OSError:
        return False


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stdout[-3000:] + done.stderr[-3000:]).strip()
