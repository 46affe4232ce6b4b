"""The metadata service of every machine: who it is, what its user data says, its role's credentials.

Answers as EC2's does with tokens required (IMDSv2), with one exception that cloud-init needs: the
dated versions answer without a token and list their directories.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from tests.servers import REGION, Credentials
from tests.system.network import METADATA_ADDRESS, Hub

ROLE = "web-role"
CREDENTIALS = f"/latest/meta-data/iam/security-credentials/{ROLE}"
_TOKEN_TTL = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN = "X-aws-ec2-metadata-token"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: from which address, for what, whether with a valid token, and the answer's status."""

    address: str
    path: str
    with_token: bool
    status: int


@dataclass
class Metadata:
    """By address: `user_data`, and a machine without one gets 404; `roles`, and one that is not there has
    `role`; `lifecycle`, what its Auto Scaling group wants of it, which is InService unless it says otherwise.
    `asked` grows with every request."""

    role: Credentials
    roles: dict[str, Credentials] = field(default_factory=dict)
    user_data: dict[str, str] = field(default_factory=dict)
    lifecycle: dict[str, str] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    tokens: dict[str, float] = field(default_factory=dict)

    def documents(self, address: str) -> dict[str, str]:
        """Every document the machine at this address can read, by its path below the version."""
        number = int(address.rsplit(".", 1)[1])
        name = f"ip-{address.replace('.', '-')}.ec2.internal"
        identity = instance_id(address)
        found = {
            "dynamic/instance-identity/document": json.dumps(
                {"instanceId": identity, "region": REGION, "privateIp": address, "architecture": "x86_64"}
            ),
            "meta-data/ami-id": "ami-0000000000000000a",
            "meta-data/autoscaling/target-lifecycle-state": self.lifecycle.get(address, "InService"),
            "meta-data/hostname": name,
            f"meta-data/iam/security-credentials/{ROLE}": json.dumps(
                _credentials(self.roles.get(address, self.role))
            ),
            "meta-data/instance-id": identity,
            "meta-data/instance-type": "t3.micro",
            "meta-data/local-hostname": name,
            "meta-data/local-ipv4": address,
            "meta-data/mac": f"02:00:00:00:00:{number:02x}",
            "meta-data/placement/availability-zone": zone(address),
            "meta-data/placement/region": REGION,
        }
        if address in self.user_data:
            found["user-data"] = self.user_data[address]
        return found


def instance_id(address: str) -> str:
    return f"i-{int(address.rsplit('.', 1)[1]):017x}"


def zone(address: str) -> str:
    """Machines are spread over three, one after the other."""
    return REGION + "abc"[int(address.rsplit(".", 1)[1]) % 3]


def _credentials(role: Credentials) -> dict[str, str]:
    now = datetime.now(UTC)
    return {
        "Code": "Success",
        "Type": "AWS-HMAC",
        "AccessKeyId": role.access_key,
        "SecretAccessKey": role.secret_key,
        "Token": role.token,
        "LastUpdated": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "Expiration": f"{now + timedelta(hours=6):%Y-%m-%dT%H:%M:%SZ}",
    }


@contextmanager
def serving(hub: Hub, role: Credentials) -> Iterator[Metadata]:
    """The service, answering in the hub until its context ends."""
    metadata = Metadata(role)
    handler = type("Handler", (_Handler,), {"metadata": metadata})
    server = hub.call(ThreadingHTTPServer, (METADATA_ADDRESS, 80), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield metadata
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    metadata: Metadata

    def do_PUT(self) -> None:
        ttl = self.headers.get(_TOKEN_TTL, "")
        if self.path != "/latest/api/token" or not ttl.isdigit():
            return self._answer(404 if ttl else 400)
        token = uuid.uuid4().hex
        self.metadata.tokens[token] = time.monotonic() + int(ttl)
        return self._answer(200, token, {_TOKEN_TTL: ttl})

    def do_GET(self) -> None:
        version, _, path = self.path.strip("/").partition("/")
        if version == "latest" and not self._has_token():
            return self._answer(401)
        documents = self.metadata.documents(self.client_address[0])
        found = documents.get(path)
        if found is None:
            found = "\n".join(_listing(documents, path))
        return self._answer(200, found) if found else self._answer(404)

    def _has_token(self) -> bool:
        return self.metadata.tokens.get(self.headers.get(_TOKEN, ""), 0.0) > time.monotonic()

    def _answer(self, status: int, body: str = "", headers: dict[str, str] | None = None) -> None:
        asked = Asked(self.client_address[0], self.path, self._has_token(), status)
        self.metadata.asked.append(asked)
        content = body.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """What was asked is in `Metadata.asked`."""


def _listing(documents: dict[str, str], path: str) -> list[str]:
    """The names in a directory; those of directories end with a slash."""
    below = f"{path}/" if path else ""
    rests = [name.removeprefix(below) for name in documents if name.startswith(below)]
    return sorted({rest.split("/")[0] + ("/" if "/" in rest else "") for rest in rests})
