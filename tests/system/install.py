"""Getting the agent onto a machine, until the bundle and `s3sync-agent setup` do it."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.servers import REGION
from tests.system import s3
from tests.system.machine import Machine
from tests.system.site import ROOT

UNIT = ROOT / "systemd/s3sync-agent.service"
INSTALL_SECONDS = 120.0
_PYTHON = "3.11"  # the machines'
_GLIBC = ("2_34", "2_28", "2_17")


def wheelhouse(cache: Path, directory: Path) -> Path:
    """`directory` with a wheel of this tree and one of everything it needs, for the machines' Python."""
    lock = ROOT / "requirements.lock"
    needed = cache / f"wheels-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    _python("build", "--wheel", "--no-isolation", "--outdir", str(directory), str(ROOT))
    if not needed.exists():
        unfinished = needed.with_name("unfinished-wheels")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _download(next(directory.glob("*.whl")), lock, unfinished)
        unfinished.rename(needed)
    for wheel in needed.glob("*.whl"):
        shutil.copy(wheel, directory)
    return directory


def _download(wheel: Path, lock: Path, into: Path) -> None:
    constraints = into / "constraints.txt"
    constraints.write_text("\n".join(re.findall(r"^[\w.-]+==[\w.]+", lock.read_text(), re.MULTILINE)))
    target = ["--python-version", _PYTHON, "--implementation", "cp", "--abi", f"cp{_PYTHON.replace('.', '')}"]
    target += ["--abi", "abi3", "--abi", "none"]
    for glibc in _GLIBC:
        target += ["--platform", f"manylinux_{glibc}_{platform.machine()}"]
    target += ["--platform", f"manylinux2014_{platform.machine()}"]
    only = ["--only-binary", ":all:", "--dest", str(into), "--constraint", str(constraints)]
    _python("pip", "download", "--quiet", *target, *only, str(wheel))
    constraints.unlink()
    for own in into.glob("s3sync_agent-*.whl"):
        own.unlink()


def _python(module: str, *arguments: str) -> None:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-1000:]}{done.stderr[-2000:]}")


def install(machine: Machine, wheels: Path, site: str, **settings: str) -> None:
    """The agent from `wheels`, its user, unit and configuration, and nginx; everything started."""
    shutil.copytree(wheels, machine.root / "root/wheels")
    machine.run(
        "python3 -m venv /opt/s3sync-agent &&"
        " /opt/s3sync-agent/bin/pip install --quiet --no-index --find-links /root/wheels s3sync-agent",
        seconds=INSTALL_SECONDS,
    )
    machine.run(
        "useradd --system --user-group --no-create-home --home-dir /var/lib/s3sync-agent"
        " --shell /usr/sbin/nologin s3sync-agent"
    )
    given = {"site": site, "source": "pointer", **settings}
    config = "".join(
        f"{name} = {value}\n" if value.replace(".", "").isdigit() else f'{name} = "{value}"\n'
        for name, value in given.items()
    )
    machine.write("/etc/s3sync-agent/config.toml", config)
    machine.write("/etc/systemd/system/s3sync-agent.service", UNIT.read_text())
    # A machine here has another S3 than AWS's; who it is, it asks the metadata service.
    machine.write(
        "/etc/systemd/system/s3sync-agent.service.d/s3.conf",
        f"[Service]\nEnvironment=AWS_ENDPOINT_URL={s3.ENDPOINT} AWS_DEFAULT_REGION={REGION}\n",
    )
    machine.write("/etc/nginx/conf.d/s3sync.conf", (ROOT / "nginx/s3sync.conf").read_text())
    machine.run("rm -f /etc/nginx/sites-enabled/default && nginx -t && systemctl restart nginx")
    machine.run("systemctl daemon-reload && systemctl enable --now s3sync-agent", seconds=INSTALL_SECONDS)
