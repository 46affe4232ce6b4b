"""`s3sync bundle`: one file that installs the agent on an instance, with nothing to fetch there.

A bundle is a program that the instance's own Python runs: a zip file with `__main__.py`
(bundle_main.py), the `installer` library beside it, and the wheels. It holds no time, no name of
this machine and nothing compressed here, so equal wheels give equal bytes; its name bears its digest.
"""

from __future__ import annotations

import hashlib
import io
import json
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from s3sync_agent.deploy.bundle_name import BundleName
from s3sync_agent.deploy.sbom import sbom
from s3sync_agent.deploy.wheels import (
    GLIBC,
    Download,
    Target,
    Wheel,
    collect,
    pip_download,
    read_lock,
    read_wheel,
)
from s3sync_agent.errors import BundleFailed
from s3sync_agent.layout import escape

AGENT = "s3sync-agent"
INSTALLER = "installer"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip format's own


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was written. `sha256` is what user data pins."""

    path: Path
    size: int
    sha256: str
    version: str
    python: str
    arch: str


def find_wheel(folder: Path) -> Path:
    """The one wheel of the agent in `folder`. Raises BundleFailed when it is not exactly one."""
    found = sorted(folder.glob("s3sync_agent-*.whl"))
    if len(found) != 1:
        what = f"{len(found)} wheels" if found else "no wheel"
        raise BundleFailed(
            f"{escape(str(folder))!r} holds {what} of {AGENT}", hint="run make dist, or name one with --wheel"
        )
    return found[0]


def make_bundle(wheel: Path, target: Target, out: Path, *, download: Download = pip_download) -> Bundle:
    """Write the bundle of the agent in `wheel` into the directory `out`.

    Raises BundleFailed and DigestMismatch; nothing is written then.
    """
    agent = read_wheel(wheel)
    if agent.name != AGENT:
        raise BundleFailed(f"{escape(wheel.name)!r} is a wheel of {agent.name}, not of {AGENT}")
    locked = read_lock(wheel, target)
    with tempfile.TemporaryDirectory(prefix="s3sync-bundle-") as folder:
        wheels = collect(locked, target, Path(folder), download)
    beside = [one for one in wheels if one.name != INSTALLER]
    unpacker = next((one for one in wheels if one.name == INSTALLER), None)
    if unpacker is None:
        raise BundleFailed(f"the lock in {escape(wheel.name)!r} does not name {INSTALLER}")
    content = archive(members(agent, beside, unpacker, target))
    sha256 = hashlib.sha256(content).hexdigest()
    path = out / str(BundleName(agent.version, target.python, target.arch, sha256[:12]))
    _write(path, content)
    return Bundle(path, len(content), sha256, agent.version, target.python, target.arch)


def members(agent: Wheel, beside: list[Wheel], unpacker: Wheel, target: Target) -> dict[str, bytes]:
    """What lies in a bundle, by name."""
    description = {
        "type": "s3sync-bundle",
        "schema": 1,
        "version": agent.version,
        "python": target.python,
        "arch": target.arch,
        "glibc": ".".join(map(str, GLIBC)),
        "wheels": [wheel.filename for wheel in [agent, *beside]],
    }
    return {
        "__main__.py": (resources.files("s3sync_agent") / "deploy" / "bundle_main.py").read_bytes(),
        "bundle.json": json.dumps(description, indent=2).encode() + b"\n",
        "sbom.cdx.json": sbom(agent, [*beside, unpacker], target),
        **_library(unpacker),
        **{f"wheels/{wheel.filename}": wheel.content for wheel in [agent, *beside]},
    }


def _library(unpacker: Wheel) -> dict[str, bytes]:
    """The unpacked library, to be imported out of the bundle; without its launchers for Windows."""
    with zipfile.ZipFile(io.BytesIO(unpacker.content)) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist() if not name.endswith((".exe", "/"))}


def archive(files: Mapping[str, bytes]) -> bytes:
    """A zip file whose bytes follow from `files` alone: sorted, stored, one date, one mode."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as out:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix, wherever this runs
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            out.writestr(entry, files[name])
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError as error:
        raise BundleFailed(f"cannot write {escape(str(path))!r}: {error.strerror}") from error
