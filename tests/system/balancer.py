"""The load balancer in front of a fleet: haproxy, with the health check of the stack's target group.

It asks `FASTER` times as often as AWS does, and so bears with an instance for a shorter time: what never
counts as unhealthy here does not there either. In one thing it is kinder: a visitor whose instance dies
under him is sent to another, so that what is left of the non-200s is what the fleet has answered.
"""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.infra.template import Template
from tests.system import cgroups
from tests.system.network import HUB_ADDRESS, Hub
from tests.system.site import ROOT

FASTER = 5
PORT = 80
READY_SECONDS = 10.0
SERVED_BY = "x-served-by"  # the header that names the instance
_BACKEND = "instances"
_SLOT = "slot"
_SLOTS = 40  # targets that there ever can be

_CONFIGURATION = """\
global
  stats socket {socket} mode 600 level admin
  nbthread 1
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 60s
  timeout check {timeout}ms
  retries 3
  option redispatch 1
  retry-on conn-failure empty-response
frontend visitors
  bind {address}:{port}
  default_backend {backend}
backend {backend}
  balance random(1)
  option httpchk GET {path}
  http-check expect status {status}
  http-response set-header {served_by} %si
  default-server check inter {interval}ms rise {rise} fall {fall}
  server-template {slot} 1-{slots} 0.0.0.0:80 disabled
"""


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """What the stack says; times in seconds, as AWS keeps them."""

    path: str
    status: str
    interval: float
    timeout: float
    healthy: int
    unhealthy: int
    draining: float

    @classmethod
    def of_the_stack(cls) -> TargetGroup:
        raw = Template.read(ROOT / "infra/cloudformation.yaml").raw["Resources"]["TargetGroup"]
        properties: dict[str, Any] = raw["Properties"]
        attributes = {each["Key"]: each["Value"] for each in properties["TargetGroupAttributes"]}
        return cls(
            path=properties["HealthCheckPath"],
            status=properties["Matcher"]["HttpCode"],
            interval=float(properties["HealthCheckIntervalSeconds"]),
            timeout=float(properties["HealthCheckTimeoutSeconds"]),
            healthy=int(properties["HealthyThresholdCount"]),
            unhealthy=int(properties["UnhealthyThresholdCount"]),
            draining=float(attributes["deregistration_delay.timeout_seconds"]),
        )


@dataclass(slots=True)
class Balancer:
    """Its targets are called by their address. A slot is used once, so that what haproxy counts of it is
    one target's."""

    group: TargetGroup
    _socket: Path
    _slots: dict[str, str] = field(default_factory=dict)
    _left: dict[str, int] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return HUB_ADDRESS

    def register(self, target: str) -> None:
        """It gets visitors when it has been found healthy, and not before."""
        slot = f"{_SLOT}{len(self._slots) + 1}"
        self._tell(f"set server {_BACKEND}/{slot} addr {target} port 80")
        # Drained first, because whatever leaves maintenance counts as healthy.
        for step in ("state drain", "health down", "state ready"):
            self._tell(f"set server {_BACKEND}/{slot} {step}")
        self._slots[target] = slot

    def deregister(self, target: str) -> None:
        """No new visitors, and an end when those that it has are served, or have had their time."""
        slot = self._slots[target]
        self._left[target] = self.unhealthy()[target]
        self._tell(f"set server {_BACKEND}/{slot} state drain")
        deadline = time.monotonic() + self.group.draining / FASTER
        while int(self._targets()[target]["scur"]) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._tell(f"set server {_BACKEND}/{slot} state maint")
        self._tell(f"shutdown sessions server {_BACKEND}/{slot}")

    def healthy(self) -> set[str]:
        """The targets that get visitors."""
        return {target for target, row in self._targets().items() if row["status"].startswith("UP")}

    def unhealthy(self) -> Mapping[str, int]:
        """How often each target became unhealthy that was healthy before, also of those that have left."""
        # Once more for each: `register` has said so itself.
        return {
            target: self._left.get(target, int(row["chkdown"]) - 1) for target, row in self._targets().items()
        }

    def _targets(self) -> dict[str, dict[str, str]]:
        """What `show stat` knows of each that was ever registered."""
        lines = self._tell(f"show stat {_BACKEND} 4 -1").removeprefix("# ").splitlines()
        rows = {row["svname"]: row for row in csv.DictReader(lines)}
        return {target: rows[slot] for target, slot in self._slots.items()}

    def _tell(self, command: str) -> str:
        """Its answer. An answer to a change is a complaint, but for that of a new address."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self._socket))
            connection.sendall(f"{command}\n".encode())
            answer = connection.makefile().read().strip()
        if answer and not command.startswith("show ") and not answer.startswith("IP changed"):
            raise RuntimeError(f"haproxy: {command}: {answer}")
        return answer


@contextmanager
def balancing(hub: Hub, directory: Path) -> Iterator[Balancer]:
    """One without targets, in the hub; it keeps its files in `directory`, which it makes."""
    directory.mkdir()
    group = TargetGroup.of_the_stack()
    configuration, control, log = directory / "haproxy.cfg", directory / "socket", directory / "haproxy.log"
    configuration.write_text(
        _CONFIGURATION.format(
            socket=control,
            timeout=round(group.timeout / FASTER * 1000),
            interval=round(group.interval / FASTER * 1000),
            rise=group.healthy,
            fall=group.unhealthy,
            slot=_SLOT,
            slots=_SLOTS,
            address=HUB_ADDRESS,
            port=PORT,
            backend=_BACKEND,
            path=group.path,
            status=group.status,
            served_by=SERVED_BY,
        )
    )
    with cgroups.group("balancer") as cgroup, log.open("wb") as output:
        command = cgroup.command(*hub.command("haproxy", "-db", "-f", str(configuration)))
        environ = {"PATH": os.environ["PATH"]}
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environ)
        try:
            _await_ready(process, control, log)
            yield Balancer(group, control)
        finally:
            process.kill()
            process.wait(timeout=10)


def _await_ready(process: subprocess.Popen[bytes], control: Path, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not control.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"haproxy was not ready:\n{log.read_text(errors='replace')}")
        time.sleep(0.02)
