"""How exposed the services are, by systemd's own measure: 0 is nothing, 10 is everything."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from s3sync_agent.layout import MachinePaths
from s3sync_agent.setup.steps import shipped_unit
from tests.agent_process import minimal

MOST_EXPOSED = 1.5


@pytest.mark.parametrize("paths", [MachinePaths(), MachinePaths("blog-2")], ids=["one site", "several"])
def test_a_service_is_exposed_as_little_as_can_be(tmp_path: Path, paths: MachinePaths) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd on this machine")
    unit = tmp_path / paths.service
    unit.write_bytes(shipped_unit(paths.unit.name))
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    verdict = re.search(r"Overall exposure level for (\S+): ([0-9.]+)", done.stdout)
    assert verdict, done.stdout + done.stderr
    assert verdict[1] == paths.service
    assert float(verdict[2]) <= MOST_EXPOSED, done.stdout


# ------------------------------------------------------------------------------- hooks

HOOKS = {
    "10-sh": "#!/bin/sh\nset -e\nfind . -name '*.html' | sort >/dev/null; grep -r home . >/dev/null\n",
    "20-bash": "#!/bin/bash\nset -euo pipefail\nsleep 0.1 & wait\nfiles=$(ls)\n[[ -n $files ]]\n",
    "30-python": """#!/usr/bin/env python3
import urllib.request
from pathlib import Path

Path("index.html").read_text()
try:
    urllib.request.urlopen("http://127.0.0.1:1/", timeout=1)
except OSError:
    pass
""",
}
RUN = """
import sys
from pathlib import Path
from s3sync_agent.hooks import Hooks, Subject

class Told:
    def event(self, name, **fields): print(name)

root = Path(sys.argv[1])
hooks = Hooks(root / "hooks.d", 30, "s3://site", {root.stat().st_uid})
hooks.ask(Subject("v1-0", "v1", root / "tree", "p"), Told(), lambda: None)
"""


@cache
def system_calls(group: str) -> frozenset[str]:
    """The system calls of a group, as this systemd knows it."""
    command = ["systemd-analyze", "syscall-filter", "--no-pager", group]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    found: set[str] = set()
    for line in map(str.strip, done.stdout.splitlines()[1:]):
        if line.startswith("@"):
            found |= system_calls(line)
        elif line and not line.startswith("#"):
            found.add(line)
    return frozenset(found)


def allowed_by(unit: str) -> set[str]:
    """The system calls that a unit's filters leave: a list of those allowed, less lists of those refused."""
    allowed: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.*)$", unit, re.MULTILINE):
        calls = {call for group in line.removeprefix("~").split() for call in system_calls(group)}
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    return allowed


def test_hooks_ask_nothing_of_the_kernel_that_the_sandbox_refuses(tmp_path: Path) -> None:
    """Running them does not either. tests/system has a hook run in the sandbox itself."""
    for tool in ("strace", "systemd-analyze"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool} on this machine")
    folder = tmp_path / "hooks.d/pre-activate"
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/index.html").write_text("home")
    folder.mkdir(parents=True)
    for name, script in HOOKS.items():
        (folder / name).write_text(script)
    for path in (folder.parent, folder, *folder.iterdir()):
        path.chmod(0o755)
    calls = tmp_path / "calls"
    command = ["strace", "-f", "-c", "-U", "name", "-o", str(calls), sys.executable, "-c", RUN, str(tmp_path)]
    environ = minimal({})
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=50, check=False)
    if "PTRACE_TRACEME" in done.stderr:
        pytest.skip("nothing may be traced on this machine")
    assert done.stdout.split() == ["hook.done"] * len(HOOKS), done.stderr
    made = set(re.findall(r"^([a-z]\w+)$", calls.read_text(), re.MULTILINE)) - {"syscall", "total"}
    assert {"execve", "pidfd_open", "setsid", "kill"} <= made
    assert made - allowed_by(shipped_unit(MachinePaths().unit.name).decode()) == set()


def test_the_sandbox_lets_the_probe_ask_nginx_and_hooks_ask_the_network() -> None:
    """docs/hooks.md says so."""
    unit = shipped_unit(MachinePaths().unit.name).decode()
    assert not re.search(r"^(IPAddressDeny|PrivateNetwork|SocketBindDeny)=", unit, re.MULTILINE)
    (families,) = re.findall(r"^RestrictAddressFamilies=(.*)$", unit, re.MULTILINE)
    assert {"AF_INET", "AF_INET6"} <= set(families.split())
