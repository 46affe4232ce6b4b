"""Commands inside the sandbox of a unit: the same properties and user, in a service of their own."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from tests.system.machine import Machine

# What is about the process that the unit runs and when, not about what it may do.
_NOT_THE_SANDBOX = {
    "EnvironmentFile",
    "ExecReload",
    "ExecStart",
    "NotifyAccess",
    "Restart",
    "RestartSec",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "Type",
    "WatchdogSec",
}


def properties(unit: Path) -> list[str]:
    """`Name=value` of every line of the unit's [Service] section that belongs to its sandbox."""
    section, found = "", []
    for line in unit.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif section == "Service" and _is_of_the_sandbox(line):
            found.append(line)
    return found


def _is_of_the_sandbox(line: str) -> bool:
    return bool(line) and not line.startswith("#") and line.split("=", 1)[0] not in _NOT_THE_SANDBOX


def run_as(
    unit: Path, machine: Machine, command: str, *, instance: str = ""
) -> subprocess.CompletedProcess[str]:
    """The shell command, run on the machine under the unit's properties; it may fail. `instance` is of a
    template."""
    properties_ = (each.replace("%i", instance) for each in properties(unit))
    options = " ".join(f"--property={shlex.quote(each)}" for each in properties_)
    run = f"systemd-run --quiet --collect --wait --pipe {options} /bin/sh -c {shlex.quote(command)}"
    return machine.run(run, check=False)
