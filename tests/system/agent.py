"""The agent of a machine: what it says, and what can be done to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.system.machine import Machine

AGENT = "s3sync-agent"
COMMAND = "/opt/s3sync-agent/bin/s3sync-agent"
STATE = "/var/lib/s3sync-agent"


def status(machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.run(f"{COMMAND} status --json").stdout)
    return found


def events(machine: Machine, name: str) -> list[dict[str, Any]]:
    """What it has reported of that name, oldest first."""
    lines = machine.journal(AGENT).splitlines()
    reported = [json.loads(line) for line in lines if line.startswith("{")]
    return [event for event in reported if event["event"] == name]


def main_pid(machine: Machine) -> int:
    return int(machine.unit(AGENT, "MainPID"))


def live(machine: Machine) -> str:
    """The version that nginx serves there."""
    return machine.run(f"basename $(readlink {STATE}/live)").stdout.strip().rpartition("-")[0]


@contextmanager
def held(machine: Machine) -> Iterator[None]:
    """It neither hears nor says anything meanwhile; nginx serves on."""
    pid = main_pid(machine)
    machine.run(f"kill -STOP {pid}")
    try:
        yield
    finally:
        machine.run(f"kill -CONT {pid}")
