"""Bundles for the machines, made of this tree by the commands that make them for anybody."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.agent_process import COMMANDS
from tests.system.site import ROOT

PYTHON = "3.11"  # the machines'
BUILD_SECONDS = 300.0
_SOURCES = ("agent", "examples", "hooks", "nginx", "systemd", "LICENSE", "README.md", "pyproject.toml")


def make(directory: Path, *, version: str = "") -> Path:
    """The bundle of this tree, or of one that calls itself `version`; in `directory`, which is made."""
    source = _renamed(directory / "source", version) if version else ROOT
    wheels = directory / "wheel"
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(source))
    (wheel,) = wheels.glob("*.whl")
    target = ("--python", PYTHON, "--arch", platform.machine())
    out = _run(str(COMMANDS / "s3sync"), "bundle", "--wheel", str(wheel), *target, "--out", str(directory))
    return Path(out.strip())


def _renamed(source: Path, version: str) -> Path:
    source.mkdir(parents=True)
    for name in _SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True)
        else:
            shutil.copy(ROOT / name, source / name)
    init = source / "agent/s3sync_agent/__init__.py"
    init.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', init.read_text()))
    return source


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
    return done.stdout
