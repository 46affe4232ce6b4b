"""The shipped nginx configuration, with other paths and hosts than the default ones.

An instance with one site uses `data/nginx/s3sync.conf` as it is. The demo, the tests and sites with a name
use the very same file: only the values named here are replaced.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from s3sync_agent.errors import ConfigError
from s3sync_agent.layout import DEFAULT_RUN_DIR, DEFAULT_STATE_DIR, escape

_LISTEN = "listen 80 default_server;"
_SERVER_NAME = "server_name _;"
_ACCESS_LOG = 'access_log "/var/log/nginx/access.log" s3sync;'
_GZIP_STATIC = "gzip_static on;"
_HOST = re.compile(r"(?:\*\.)?[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?\Z")
_MEANS_SOMETHING = re.compile(r'["$\\\x00-\x1f\x7f]')  # inside a quoted string of nginx


def shipped() -> str:
    """The configuration as instances get it."""
    return (resources.files("s3sync_agent") / "data" / "nginx" / "s3sync.conf").read_text()


def has_gzip_static(build: str) -> bool:
    """Whether an nginx that answers `-V` with `build` can send precompressed files.

    Those of distributions can. One that cannot refuses the shipped configuration.
    """
    return "--with-http_gzip_static_module" in build


def check_host(host: str) -> str:
    """Return `host` when a server may be named so; raises ConfigError. `*.example.com` may."""
    if not _HOST.match(host):
        raise ConfigError(
            f"{escape(host)!r} is no host name", hint="in small letters, for example: --host blog.example.com"
        )
    return host


def render(
    *,
    state_dir: Path,
    run_dir: Path,
    listen: str,
    access_log: Path | None,
    gzip_static: bool = True,
    name: str = "",
    hosts: Sequence[str] = (),
) -> str:
    """The shipped configuration for these directories and this `address:port`, or port.

    `access_log` None switches the log off. Without `gzip_static` every file is compressed on the fly, for
    an nginx that cannot do else. With `hosts` it answers these and is nobody's default; `name` then keeps it
    apart from other sites in the same nginx. Raises ConfigError for a path or host nginx would misread.
    """
    log_format = f"s3sync_{name.replace('-', '_')}" if name else "s3sync"
    log = "off" if access_log is None else f'"{_plain(access_log)}" {log_format}'
    text = shipped()
    for default, value in (
        (_LISTEN, f"listen {listen};" if hosts else f"listen {listen} default_server;"),
        (_SERVER_NAME, f"server_name {' '.join(map(check_host, hosts))};" if hosts else _SERVER_NAME),
        (_ACCESS_LOG, f"access_log {log};"),
        (_GZIP_STATIC, _GZIP_STATIC if gzip_static else "# no gzip_static: this nginx was built without it"),
        # What nginx knows only once, however many servers there are.
        ("log_format s3sync ", f"log_format {log_format} "),
        ("$s3sync_live", f"${log_format}_live"),
        (f'"{DEFAULT_STATE_DIR}/', f'"{_plain(state_dir)}/'),
        (f'"{DEFAULT_RUN_DIR}/', f'"{_plain(run_dir)}/'),
    ):
        if default not in text:
            raise AssertionError(f"nginx/s3sync.conf no longer holds {default!r}")
        text = text.replace(default, value)
    return text


def hosts_of(conf: str) -> list[str]:
    """The hosts that a rendered configuration answers."""
    found = re.search(r"^ *server_name (.*);$", conf, re.MULTILINE)
    return found[1].split() if found else []


def main_conf(server: str, *, directory: Path, user: str = "") -> str:
    """A whole nginx.conf around a rendered `server`, to run in the foreground without privileges.

    nginx writes nothing outside `directory`, which must exist; errors go to its standard error.
    `user` is for a caller who is root all the same: whom the workers run as, so that they can read
    what the caller made.
    """
    where = _plain(directory)
    as_user = f"user {user};\n" if user else ""
    return f"""\
{as_user}daemon off;
worker_processes 2;
pid "{where}/nginx.pid";
error_log stderr warn;
events {{
    worker_connections 1024;
}}
http {{
    client_body_temp_path "{where}/client_body";
    proxy_temp_path "{where}/proxy";
    fastcgi_temp_path "{where}/fastcgi";
    uwsgi_temp_path "{where}/uwsgi";
    scgi_temp_path "{where}/scgi";

{server}}}
"""


def _plain(path: Path) -> str:
    text = str(path.absolute())
    if _MEANS_SOMETHING.search(text):
        raise ConfigError(
            f"nginx cannot be given the path {escape(text)!r}",
            hint='use a path without quotation marks, "$" and backslashes',
        )
    return text
