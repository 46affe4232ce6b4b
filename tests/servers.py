"""Real S3 servers on loopback, for tests: moto inside this process, seaweedfs as its own.

Every server listens on free ports of 127.0.0.1 only, keeps its data in a directory of its own and
is gone when its context ends.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"
READY_SECONDS = 30.0


# What keeps the settings of the person who runs the tests out of them.
NO_SETTINGS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True, slots=True)
class Credentials:
    access_key: str
    secret_key: str
    token: str = ""  # of a session; the S3 servers know none


ADMIN = Credentials("AKADMIN", "SKADMIN")
READER = Credentials("AKREADER", "SKREADER")  # seaweedfs only: may read and list READABLE_BUCKET, no more
READABLE_BUCKET = "readable"


@dataclass(frozen=True, slots=True)
class S3Server:
    """`admin` is an administrator's own client: it sets the scene without the code under test."""

    name: str
    endpoint: str
    admin: S3Client

    def environment(self, who: Credentials = ADMIN) -> dict[str, str]:
        """What a process needs in its environment to talk to this server, and to no other."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": who.access_key,
            "AWS_SECRET_ACCESS_KEY": who.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            **NO_SETTINGS,
        }

    def new_bucket(self) -> str:
        """The name of a bucket that was made for the caller alone."""
        name = f"test-{uuid.uuid4().hex[:16]}"
        self.admin.create_bucket(Bucket=name)
        return name


@contextmanager
def _administered(name: str, endpoint: str) -> Iterator[S3Server]:
    import boto3
    from botocore.config import Config

    admin = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=ADMIN.access_key,
        aws_secret_access_key=ADMIN.secret_key,
        region_name=REGION,
        config=Config(s3={"addressing_style": "path"}),
    )
    with closing(admin):
        yield S3Server(name, endpoint, admin)


@contextmanager
def moto() -> Iterator[S3Server]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        with _administered("moto", f"http://{host}:{port}") as found:
            yield found
    finally:
        server.stop()


@contextmanager
def seaweedfs(directory: Path) -> Iterator[S3Server]:
    """A seaweedfs that keeps its data, log and home below `directory`."""
    master, volume, filer, s3 = free_ports(4)
    config = directory / "s3.json"
    config.write_text(json.dumps(_IDENTITIES))
    command = [
        str(Path(sys.executable).with_name("weed")),
        "-logtostderr",
        "server",
        f"-dir={directory}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-master.port={master}",
        "-master.volumeSizeLimitMB=64",
        "-master.telemetry=false",
        f"-volume.port={volume}",
        "-volume.max=3000",  # seven for every bucket, and every test has its own
        "-filer",
        f"-filer.port={filer}",
        "-s3",
        f"-s3.port={s3}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.config={config}",
        "-s3.autoCreateBucket=false",
    ]
    log = directory / "weed.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            cwd=directory,
            env={"HOME": str(directory), "TMPDIR": str(directory)},
        )
    try:
        with _administered("seaweedfs", f"http://127.0.0.1:{s3}") as server:
            _await_ready(process, server, log)
            yield server
    finally:
        process.send_signal(signal.SIGKILL)  # it ignores SIGTERM
        process.wait(timeout=10)
        _remove_sockets((master, volume, filer, s3))


def _remove_sockets(ports: tuple[int, ...]) -> None:
    """It puts Unix sockets into one fixed place, named by port, and leaves them there."""
    for port in ports:
        for number in (port, port + 10_000):
            for path in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):  # its choice, not ours
                path.unlink(missing_ok=True)


_IDENTITIES = {
    "identities": [
        {
            "name": "admin",
            "credentials": [{"accessKey": ADMIN.access_key, "secretKey": ADMIN.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {
            "name": "reader",
            "credentials": [{"accessKey": READER.access_key, "secretKey": READER.secret_key}],
            "actions": [f"Read:{READABLE_BUCKET}", f"List:{READABLE_BUCKET}"],
        },
    ]
}


def _await_ready(process: subprocess.Popen[bytes], server: S3Server, log: Path) -> None:
    """Until an object can be written: the S3 port answers long before there is a volume."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if _answers(server.endpoint):
            server.admin.create_bucket(Bucket="ready")
            server.admin.put_object(Bucket="ready", Key="ready", Body=b"ready")
            return
        time.sleep(0.05)
    tail = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"seaweedfs was not ready after {READY_SECONDS:.0f} s:\n{tail}")


def _answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(endpoint, timeout=1):  # our own http:// address
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    """Ports that are free on loopback together with their gRPC neighbours 10,000 above, both
    below the range from which the kernel takes the ports of outgoing connections."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 22_700)  # only to stay out of each other's way
        if port not in found and _is_free(port) and _is_free(port + 10_000):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
