"""The S3 server in the hub, and who may do what there: CI writes, instances read and write heartbeats."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.servers import NO_SETTINGS, REGION, Credentials
from tests.system import cgroups
from tests.system.network import HUB_ADDRESS, Hub

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

READY_SECONDS = 30.0
BUCKET = "site"
CI = Credentials("AKCI", "SKCI")
INSTANCE = Credentials("AKINSTANCE", "SKINSTANCE")
ONLY_BUNDLES = Credentials("AKBUNDLES", "SKBUNDLES")  # those of test_user_data's site

PORT = 8633
_MASTER, _VOLUME, _FILER = 9433, 8433, 8533
ENDPOINT = f"http://{HUB_ADDRESS}:{PORT}"
_READS = (f"Read:{BUCKET}", f"List:{BUCKET}")
_IDENTITIES: dict[str, list[dict[str, Any]]] = {
    "identities": [
        {
            "name": "ci",
            "credentials": [{"accessKey": CI.access_key, "secretKey": CI.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {
            "name": "instance",
            "credentials": [{"accessKey": INSTANCE.access_key, "secretKey": INSTANCE.secret_key}],
            # Of any site, and of all instances: the policies of the stack are stricter, and tested elsewhere.
            "actions": [*_READS, f"Write:{BUCKET}/*/fleet/*"],
        },
        {
            "name": "only-bundles",
            "credentials": [{"accessKey": ONLY_BUNDLES.access_key, "secretKey": ONLY_BUNDLES.secret_key}],
            "actions": [f"Read:{BUCKET}/test-user-data/agent/*"],
        },
    ]
}


@dataclass(frozen=True, slots=True)
class S3:
    """A server with an empty bucket `BUCKET`. It reads `identities` again when it is told to."""

    pid: int
    identities: Path

    @contextmanager
    def away(self) -> Iterator[None]:
        """It accepts connections and answers nothing, as a service that hangs."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    @contextmanager
    def no_heartbeats(self) -> Iterator[None]:
        """Instances may read and no longer write, as after a change of their role's policy."""
        self._allow_instances(*_READS)
        try:
            yield
        finally:
            self._allow(_IDENTITIES)

    def _allow_instances(self, *actions: str) -> None:
        identities = [
            {**each, "actions": list(actions)} if each["name"] == "instance" else each
            for each in _IDENTITIES["identities"]
        ]
        self._allow({"identities": identities})

    def _allow(self, identities: Mapping[str, Any]) -> None:
        self.identities.write_text(json.dumps(identities))
        os.kill(self.pid, signal.SIGHUP)


def environment(who: Credentials) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": ENDPOINT,
        "AWS_ACCESS_KEY_ID": who.access_key,
        "AWS_SECRET_ACCESS_KEY": who.secret_key,
        "AWS_DEFAULT_REGION": REGION,
        **NO_SETTINGS,
    }


@contextmanager
def serving(hub: Hub, directory: Path) -> Iterator[S3]:
    """A seaweedfs that keeps its data, log and home in `directory`, which it makes."""
    directory.mkdir()
    identities = directory / "identities.json"
    identities.write_text(json.dumps(_IDENTITIES))
    log = directory / "weed.log"
    with cgroups.group("s3") as group, log.open("wb") as output:
        process = subprocess.Popen(
            group.command(*hub.command(*_command(directory, identities))),
            stdout=output,
            stderr=output,
            cwd=directory,
            env={"HOME": str(directory), "PATH": os.environ["PATH"]},
        )
        try:
            _await_ready(process, hub, log)
            yield S3(process.pid, identities)
        finally:
            process.kill()  # it ignores SIGTERM
            process.wait(timeout=10)
            sweep()


def _command(directory: Path, identities: Path) -> list[str]:
    return [
        str(Path(sys.executable).with_name("weed")),
        "-logtostderr",
        "server",
        f"-dir={directory}",
        f"-ip={HUB_ADDRESS}",
        f"-ip.bind={HUB_ADDRESS}",
        f"-master.port={_MASTER}",
        "-master.volumeSizeLimitMB=64",
        "-master.telemetry=false",
        f"-volume.port={_VOLUME}",
        "-volume.max=300",
        "-filer",
        f"-filer.port={_FILER}",
        "-s3",
        f"-s3.port={PORT}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.config={identities}",
        "-s3.autoCreateBucket=false",
    ]


def sweep() -> None:
    """Seaweedfs puts Unix sockets into one fixed place, named by port, and leaves them there."""
    for port in (_MASTER, _VOLUME, _FILER, PORT):
        for number in (port, port + 10_000):
            for path in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):  # its choice, not ours
                path.unlink(missing_ok=True)


def _await_ready(process: subprocess.Popen[bytes], hub: Hub, log: Path) -> None:
    """Until an object can be written: the S3 port answers long before there is a volume."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if hub.call(_answers):
            hub.call(_make_bucket)
            return
        time.sleep(0.05)
    tail = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"seaweedfs was not ready after {READY_SECONDS:.0f} s:\n{tail}")


def _answers() -> bool:
    try:
        with urllib.request.urlopen(ENDPOINT, timeout=1):  # our own http:// address
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _make_bucket() -> None:
    with closing(_client()) as client:
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
        client.delete_object(Bucket=BUCKET, Key="ready")


def put(key: str, body: bytes) -> None:
    """As CI; to be called in the hub."""
    with closing(_client()) as client:
        client.put_object(Bucket=BUCKET, Key=key, Body=body)


def get(key: str) -> bytes:
    """As CI; to be called in the hub."""
    with closing(_client()) as client:
        return client.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def keys(prefix: str) -> list[str]:
    """As CI; to be called in the hub."""
    with closing(_client()) as client:
        found = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [each["Key"] for each in found.get("Contents", [])]


def _client() -> S3Client:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=ENDPOINT,
        aws_access_key_id=CI.access_key,
        aws_secret_access_key=CI.secret_key,
        region_name=REGION,
        config=Config(s3={"addressing_style": "path"}),
    )
