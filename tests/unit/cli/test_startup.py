"""`--help` answers at once: nothing heavy is imported before a command needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from s3sync_agent.cli.operator import main

HEAVY = {
    "boto3",
    "botocore",
    "prometheus_client",
    "rich",
    "moto",
    "structlog",
    "watchdog",
    "asyncio",
    "urllib.request",
}

PROBE = """
import sys
from s3sync_agent.cli.operator import main
try:
    main(sys.argv[1:], prog_name="s3sync")
finally:
    print(*sys.modules, file=sys.stderr)
"""

COMMANDS = [name for name in main.lazy if name != "demo"]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout
    assert HEAVY & set(done.stderr.split()) == set()


def test_help_of_the_whole_imports_no_command() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, "--help"], capture_output=True, text=True, timeout=20, check=True
    )
    ours = {name for name in done.stderr.split() if name.startswith("s3sync_agent.")}
    assert ours == {
        "s3sync_agent.cli",
        "s3sync_agent.cli.console",
        "s3sync_agent.cli.operator",
        "s3sync_agent.errors",
        "s3sync_agent.layout",
    }
    for name in COMMANDS:
        assert f"  {name} " in done.stdout
