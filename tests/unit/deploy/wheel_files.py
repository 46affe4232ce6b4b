"""Small wheels for tests: enough of one for pip, packaging and installer."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

from s3sync_agent.deploy.bundle import archive
from s3sync_agent.deploy.wheels import LOCK, Locked, Target


def wheel(
    name: str,
    version: str = "1.0",
    *,
    files: Mapping[str, bytes] | None = None,
    tag: str = "py3-none-any",
    headers: Sequence[str] = (),
) -> tuple[str, bytes]:
    """File name and bytes of a wheel."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    members = {
        f"{module}/__init__.py": b"",
        f"{info}/METADATA": "\n".join(
            ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *headers, ""]
        ).encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
        **(files or {}),
    }
    lines = [
        f"{path},sha256={urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b'=').decode()},{len(body)}"
        for path, body in members.items()
    ]
    record = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    return f"{module}-{version}-{tag}.whl", archive({**members, f"{info}/RECORD": record})


class Index:
    """Stands for pip and an index: has wheels, and writes those that are asked for into a folder."""

    def __init__(self, *wheels: tuple[str, bytes]) -> None:
        self.wheels = dict(wheels)

    @property
    def lock(self) -> str:
        """A lock that names every wheel of this index."""
        return "".join(
            f"{filename.split('-')[0]}=={filename.split('-')[1]} \\\n"
            f"    --hash=sha256:{hashlib.sha256(content).hexdigest()}\n"
            for filename, content in self.wheels.items()
        )

    def download(self, locked: Sequence[Locked], target: Target, folder: Path) -> None:
        wanted = {entry.name.replace("-", "_") for entry in locked}
        for filename, content in self.wheels.items():
            if filename.split("-")[0] in wanted:
                (folder / filename).write_bytes(content)


def agent_wheel(folder: Path, lock: str, version: str = "1.2.3") -> Path:
    """A wheel of s3sync-agent with this lock, as a file."""
    filename, content = wheel(
        "s3sync-agent",
        version,
        files={LOCK: lock.encode()},
        headers=[
            "License-Expression: Apache-2.0",
            "Requires-Dist: six>=1",
            "Requires-Dist: old; python_version<'3'",
        ],
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / filename).write_bytes(content)
    return folder / filename
