"""nginx finishes what it has begun before it stops: a drop-in for the distribution's own unit.

Takes effect at the next stop; nginx need not be started again for it.
"""

from __future__ import annotations

from pathlib import Path

from s3sync_agent.layout import MachinePaths
from s3sync_agent.setup.host import Directory, Host
from s3sync_agent.setup.steps import Finding, must, needs_reload, others, shipped_unit

NGINX = "nginx.service"
DROP_IN = Path("/etc/systemd/system/nginx.service.d/s3sync.conf")


def shipped() -> bytes:
    return shipped_unit("nginx-drain.conf")


def installed(host: Host) -> Finding:
    if host.read(DROP_IN) == shipped() and not needs_reload(NGINX, host):
        return Finding("nginx finishes running requests before it stops")
    return Finding("let nginx finish running requests before it stops", _install)


def _install(host: Host) -> None:
    if host.directory(DROP_IN.parent) is None:
        host.make_directory(DROP_IN.parent, Directory(0o755, "root"))
    host.write(DROP_IN, shipped())
    must(host, "systemctl", "daemon-reload")


def removed(paths: MachinePaths, host: Host) -> Finding:
    if host.read(DROP_IN) is None:
        return Finding(f"{DROP_IN} is not there")
    if others(paths, host):
        return Finding(f"{DROP_IN} stays for the other sites")
    return Finding("let nginx stop as its distribution has it", _remove)


def _remove(host: Host) -> None:
    host.remove(DROP_IN)
    must(host, "rmdir", "--ignore-fail-on-non-empty", str(DROP_IN.parent))
    must(host, "systemctl", "daemon-reload")
