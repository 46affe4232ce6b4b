"""The wheels of a bundle: what the lock asks for, and getting exactly that for another machine.

The lock lies in the agent's own wheel, so wheel and dependencies are of one piece. Markers are
evaluated for the instance's Python, never for the one that runs this.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.markers import Marker
from packaging.utils import canonicalize_name, parse_wheel_filename

from s3sync_agent.errors import BundleFailed, DigestMismatch
from s3sync_agent.layout import escape

Arch = Literal["x86_64", "aarch64"]

LOCK = "s3sync_agent/data/runtime.lock"
GLIBC = (2, 34)  # Amazon Linux 2023 has 2.34, Ubuntu 22.04 2.35, Debian 12 2.36
PIP_TIMEOUT = 600.0

_ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)\s*(?:;\s*(?P<marker>[^\\]+?))?\s*$")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a bundle is installed. `python` is `3.12`; CPython on Linux with GNU's C library, always."""

    python: str
    arch: Arch

    @property
    def tag(self) -> str:
        return f"cp{self.python.replace('.', '')}"

    @property
    def platforms(self) -> list[str]:
        """Platform tags of wheels that run there; pip takes them literally, so older ones are listed too."""
        major, newest = GLIBC
        return [f"manylinux_{major}_{minor}_{self.arch}" for minor in range(newest, 16, -1)] + [
            f"manylinux2014_{self.arch}"
        ]

    @property
    def markers(self) -> dict[str, str]:
        """What markers of requirements see there. What nobody can know beforehand is empty."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.arch,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


@dataclass(frozen=True, slots=True)
class Locked:
    """One entry of a lock: any file with one of these SHA-256 is this version of this package."""

    name: str
    version: str
    hashes: frozenset[str]

    @property
    def requirement(self) -> str:
        return " ".join(
            [f"{self.name}=={self.version}", *(f"--hash=sha256:{h}" for h in sorted(self.hashes))]
        )


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel's file name and bytes."""

    filename: str
    content: bytes

    @property
    def name(self) -> str:
        return str(parse_wheel_filename(self.filename)[0])

    @property
    def version(self) -> str:
        return str(parse_wheel_filename(self.filename)[1])

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


Download = Callable[[Sequence[Locked], Target, Path], None]


def read_wheel(path: Path) -> Wheel:
    """Raises BundleFailed when there is no such file or its name is no wheel's."""
    try:
        parse_wheel_filename(path.name)
        return Wheel(path.name, path.read_bytes())
    except (ValueError, OSError) as error:
        raise BundleFailed(
            f"{escape(str(path))!r} is no wheel: {error}", hint="build one with: make dist"
        ) from error


def read_lock(agent: Path, target: Target) -> list[Locked]:
    """What the agent's wheel wants beside itself on `target`. Raises BundleFailed without a lock."""
    try:
        with zipfile.ZipFile(agent) as archive:
            text = archive.read(LOCK).decode()
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise BundleFailed(
            f"{escape(agent.name)!r} holds no {LOCK}, so nobody can say what it runs with",
            hint="give --wheel a wheel of s3sync-agent that was built with: make dist",
        ) from error
    return parse_lock(text, target)


def parse_lock(text: str, target: Target) -> list[Locked]:
    """The entries of a lock whose markers hold on `target`, by name."""
    entries = []
    for block in re.split(r"\n(?=\S)", text.strip()):
        first, _, rest = block.partition("\\\n")
        entry = _ENTRY.match(first)
        hashes = frozenset(_HASH.findall(rest))
        if entry is None or not hashes:
            raise BundleFailed(f"the lock holds a line without version and hash: {escape(first)!r}")
        if entry["marker"] is None or Marker(entry["marker"]).evaluate(target.markers):
            entries.append(Locked(canonicalize_name(entry["name"]), entry["version"], hashes))
    return sorted(entries, key=lambda entry: entry.name)


def collect(locked: Sequence[Locked], target: Target, folder: Path, download: Download) -> list[Wheel]:
    """Exactly the locked wheels, in the lock's order. Raises BundleFailed, DigestMismatch."""
    download(locked, target, folder)
    found = {wheel.name: wheel for wheel in map(read_wheel, sorted(folder.glob("*.whl")))}
    for entry in locked:
        wheel = found.get(entry.name)
        if wheel is None:
            raise BundleFailed(
                f"there is no wheel of {entry.name} {entry.version} for {target.tag} on {target.arch}"
            )
        if wheel.sha256 not in entry.hashes:
            raise DigestMismatch(f"{escape(wheel.filename)} is not a file that the lock names")
    return [found[entry.name] for entry in locked]


def pip_download(locked: Sequence[Locked], target: Target, folder: Path) -> None:
    """Ask whatever index pip is configured with. Raises BundleFailed with pip's own last words."""
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join(entry.requirement for entry in locked) + "\n")
    command = [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-input"),
        *("--only-binary=:all:", "--no-deps", "--require-hashes", "--requirement", str(requirements)),
        *("--dest", str(folder), "--implementation", "cp", "--python-version", target.python),
        *(f"--platform={platform}" for platform in target.platforms),
    ]
    try:
        done = subprocess.run(  # noqa: S603  # our own arguments, no shell
            command, check=False, capture_output=True, text=True, timeout=PIP_TIMEOUT
        )
    except subprocess.TimeoutExpired as error:
        raise BundleFailed(
            f"pip did not get the wheels within {PIP_TIMEOUT:.0f} s", hint="is its index reachable?"
        ) from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR:") or "No module" in line]
        raise BundleFailed(
            "\n".join(["pip could not get the wheels:", *(said or done.stderr.splitlines()[-3:])]),
            hint="pip's own configuration says where from: pip config list",
        )
