"""Where distributions differ, in one table. Everything else in this package is the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s3sync_agent.errors import ConfigError
from s3sync_agent.layout import escape
from s3sync_agent.setup.host import Host

DefaultServer = Literal["in nginx.conf", "in sites-enabled"]


@dataclass(frozen=True, slots=True)
class Distribution:
    """`no_shell`: the shell of users who never log in. `install_*`: what an operator types."""

    name: str
    no_shell: str
    default_server: DefaultServer
    install_nginx: str
    install_semanage: str


_AMAZON = Distribution(
    name="Amazon Linux 2023",
    no_shell="/sbin/nologin",
    default_server="in nginx.conf",
    install_nginx="dnf install nginx",
    install_semanage="dnf install policycoreutils-python-utils",
)
_DEBIAN = Distribution(
    name="Debian or Ubuntu",
    no_shell="/usr/sbin/nologin",
    default_server="in sites-enabled",
    install_nginx="apt-get install nginx-light",
    install_semanage="apt-get install policycoreutils-python-utils",
)
BY_ID: Mapping[str, Distribution] = {"amzn": _AMAZON, "debian": _DEBIAN, "ubuntu": _DEBIAN}


def detect(host: Host) -> Distribution:
    """By /etc/os-release. Raises ConfigError for one that is not in the table."""
    text = (host.read(Path("/etc/os-release")) or b"").decode(errors="replace")
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    names = [fields.get(key, "").strip("\"'") for key in ("ID", "ID_LIKE")]
    for name in " ".join(names).split():
        if name in BY_ID:
            return BY_ID[name]
    raise ConfigError(
        f"setup does not know this distribution: {escape(names[0]) or 'no name'}",
        hint="it knows Amazon Linux 2023, Debian and Ubuntu",
    )
