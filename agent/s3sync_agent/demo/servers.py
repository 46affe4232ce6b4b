"""The demo's servers, each ready when its context begins and gone when it ends: S3 and nginx.

They listen on loopback only and write below the folder they are given.
"""

from __future__ import annotations

import http.client
import os
import pwd
import random
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from s3sync_agent import layout, nginx
from s3sync_agent.demo.processes import Process, running, until
from s3sync_agent.demo.tools import Tools, nginx_build
from s3sync_agent.errors import ConfigError, DemoFailed

HOST = "127.0.0.1"
BUCKET = "demo"
READY_SECONDS = 30.0
_TRIES = 3


@dataclass(frozen=True, slots=True)
class S3:
    """An S3 server that holds an empty bucket `BUCKET`."""

    process: Process
    port: int

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True, slots=True)
class Nginx:
    process: Process
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body. Raises OSError or HTTPException."""
        return ask(self.port, "GET", path)


def ask(port: int, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """One request on a connection of its own: status and body."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


# ------------------------------------------------------------------------------- S3


@contextmanager
def s3_server(tools: Tools, folder: Path, environment: Mapping[str, str]) -> Iterator[S3]:
    """The server of `tools.s3_kind` with its data in `folder`, which must exist."""
    start = _moto if tools.s3_kind == "moto" else _seaweedfs
    with start(tools, folder, environment) as server:
        yield server


@contextmanager
def _moto(tools: Tools, folder: Path, environment: Mapping[str, str]) -> Iterator[S3]:
    def start(port: int) -> AbstractContextManager[Process]:
        command = [tools.s3, "-H", HOST, "-p", str(port)]
        return running("moto", command, log=folder / "moto.log", environment=environment)

    def ready(port: int) -> bool:
        return _status(port, "PUT", f"/{BUCKET}") == 200

    with _on_a_free_port(start, ready) as (process, port):
        yield S3(process, port)


@contextmanager
def _seaweedfs(tools: Tools, folder: Path, environment: Mapping[str, str]) -> Iterator[S3]:
    master, volume, filer, port = _ports_of_seaweedfs()
    command = [
        tools.s3,
        "-logtostderr",
        "server",
        f"-dir={folder}",
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        f"-master.port={master}",
        "-master.volumeSizeLimitMB=64",
        "-master.telemetry=false",
        f"-volume.port={volume}",
        "-volume.max=300",
        "-filer",
        f"-filer.port={filer}",
        "-s3",
        f"-s3.port={port}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
    ]

    def ready() -> bool:
        """It answers long before it has a place for an object."""
        made = _status(port, "PUT", f"/{BUCKET}") in (200, 409)
        return made and _status(port, "PUT", f"/{BUCKET}/ready", b"ready") == 200

    started = running(
        "seaweedfs",
        command,
        log=folder / "seaweedfs.log",
        environment={**environment, "HOME": str(folder)},
        end=signal.SIGKILL,  # it ignores SIGTERM
    )
    try:
        with started as process:
            until(ready, what="seaweedfs answers", within=READY_SECONDS, depends_on=[process])
            _status(port, "DELETE", f"/{BUCKET}/ready")
            yield S3(process, port)
    finally:
        _remove_sockets((master, volume, filer, port))


def _remove_sockets(ports: tuple[int, ...]) -> None:
    """seaweedfs puts Unix sockets into one fixed place, named by port, and leaves them there."""
    for port in ports:
        for number in (port, port + 10_000):
            for path in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):  # noqa: S108 - its choice, not ours
                path.unlink(missing_ok=True)


# ---------------------------------------------------------------------------- nginx


@contextmanager
def nginx_serving(
    tools: Tools,
    folder: Path,
    environment: Mapping[str, str],
    *,
    state: layout.StatePaths,
    run: layout.RunPaths,
    port: int | None = None,
) -> Iterator[Nginx]:
    """nginx with the shipped configuration, its own files in `folder`, on `port` or a free one."""
    # As root its workers would become somebody who may not read a temporary folder.
    user = pwd.getpwuid(0).pw_name if os.geteuid() == 0 else ""
    gzip_static = nginx.has_gzip_static(nginx_build(tools.nginx))

    def start(chosen: int) -> AbstractContextManager[Process]:
        server = nginx.render(
            state_dir=state.root,
            run_dir=run.root,
            listen=f"{HOST}:{chosen}",
            access_log=folder / "access.log",
            gzip_static=gzip_static,
        )
        conf = folder / "nginx.conf"
        conf.write_text(nginx.main_conf(server, directory=folder, user=user))
        command = [tools.nginx, "-p", str(folder), "-e", "stderr", "-c", str(conf)]
        return running("nginx", command, log=folder / "nginx.log", environment=environment)

    def ready(chosen: int) -> bool:
        return _status(chosen, "GET", "/healthz") is not None

    with _on_a_free_port(start, ready, port) as (process, chosen):
        yield Nginx(process, chosen)


# ---------------------------------------------------------------------------- ports


@contextmanager
def _on_a_free_port(
    start: Callable[[int], AbstractContextManager[Process]],
    ready: Callable[[int], bool],
    port: int | None = None,
) -> Iterator[tuple[Process, int]]:
    """A server that answers, started again where somebody took the port before it could."""
    for attempt in range(_TRIES):
        chosen = port or _free_port()
        with start(chosen) as process:
            try:
                until(
                    partial(ready, chosen),
                    what=f"{process.name} answers",
                    within=READY_SECONDS,
                    depends_on=[process],
                )
            except DemoFailed:
                taken = "already in use" in process.log.read_text(errors="replace").lower()
                if not taken or attempt == _TRIES - 1:
                    raise
                continue
            yield process, chosen
            return


def _status(port: int, method: str, path: str, body: bytes = b"") -> int | None:
    """The status of the answer, None without one."""
    with suppress(OSError, http.client.HTTPException):
        return ask(port, method, path, body)[0]
    return None


def require_free(port: int) -> None:
    """Raises ConfigError when nobody could listen there."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError as error:
        raise ConfigError(
            f"nginx cannot listen on port {port}: {error.strerror}",
            hint="name another one, or leave --port out: a free one is found",
        ) from error


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _ports_of_seaweedfs() -> tuple[int, ...]:
    """Four ports that are free together with their gRPC neighbours 10,000 above.

    All are below the range from which the kernel takes the ports of outgoing connections.
    """
    found: list[int] = []
    while len(found) < 4:
        port = random.randrange(20_000, 22_700)  # noqa: S311 - only to stay out of each other's way
        if port not in found and _is_free(port) and _is_free(port + 10_000):
            found.append(port)
    return tuple(found)


def _is_free(port: int) -> bool:
    with suppress(OSError), socket.create_server((HOST, port)):
        return True
    return False
