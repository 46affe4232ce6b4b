"""What the probe of a site asks: the nginx that setup has configured, under a name that it answers to.

A fragment of setup's own, written anew each time, because the configuration file is the operator's: so a
machine that was set up by an older version gets it too, and other hosts take the place of former ones.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from functools import partial

from s3sync_agent.layout import MachinePaths
from s3sync_agent.setup.host import Host
from s3sync_agent.setup.steps import Finding
from s3sync_agent.setup.web_server import PORT, hosts_here

_WRITTEN = "# Written anew by each `s3sync-agent setup`. What is set in any other file here counts more.\n"


def written(paths: MachinePaths, hosts: Sequence[str], host: Host) -> Finding:
    """What the operator's configuration file says about the probe is not said again here, where it would win.

    A running agent takes the change. One of a version that does not know these settings goes on with its own.
    """
    path = paths.by_setup
    theirs = tomllib.loads((host.read(paths.config) or b"").decode())  # checked by config_file.written
    ours = {
        name: value
        for name, value in probe_settings(hosts_here(paths, hosts, host)).items()
        if name not in theirs
    }
    if not ours:
        return removed(paths, host)
    text = _WRITTEN + "".join(f"{name} = {json.dumps(value)}\n" for name, value in ours.items())
    if host.read(path) == text.encode():
        return Finding(f"{path} is up to date")
    return Finding(f"write {path}", partial(_write, paths, text))


def probe_settings(hosts: Sequence[str]) -> dict[str, str]:
    """For a server of these hosts; one without answers to every name."""
    url = {"probe_url": f"http://127.0.0.1:{PORT}"}
    if not hosts:
        return url
    return url | {"probe_host": next((name for name in hosts if "*" not in name), _any_of(hosts[0]))}


def _any_of(wildcard: str) -> str:
    return wildcard.replace("*", "s3sync-probe", 1)


def _write(paths: MachinePaths, text: str, host: Host) -> None:
    host.write(paths.by_setup, text.encode())


def removed(paths: MachinePaths, host: Host) -> Finding:
    if host.read(paths.by_setup) is None:
        return Finding(f"{paths.by_setup} is not there")
    return Finding(f"remove {paths.by_setup}", lambda host: host.remove(paths.by_setup))
