"""AWS as a machine sees it: its own host names, TLS, signatures, roles that may do what their policies say.

ministack stands for all services. It checks every signature and judges by the policies that a stack gave to
its roles, except in what it knows nothing of (`UNKNOWN_TO_IT`). Before it is a front, in the hub under the
names of AWS and on loopback for CI, that notes what is asked.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPResponse, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl

from tests.infra import emulators
from tests.infra.template import REGION
from tests.servers import Credentials
from tests.system import cgroups
from tests.system.network import HUB_ADDRESS, Hub
from tests.system.rootfs import TRUSTED

DOMAIN = f"{REGION}.amazonaws.com"
PORT = 4566
READY_SECONDS = 30.0
# It compares neither a namespace of metrics nor a stack's ARN with a stack's name, and knows no variables: a
# heartbeat's key has one. All of these are put to the policies in tests/infra.
UNKNOWN_TO_IT = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["cloudformation:SignalResource", "cloudwatch:PutMetricData"],
            "Resource": "*",
        },
        {
            "Effect": "Allow",
            "Action": ["s3:PutObject", "s3:DeleteObject"],
            "Resource": "arn:aws:s3:::*/fleet/*",
        },
    ],
}
_SIGNAL_TAKEN = b"""\
<SignalResourceResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/">\
<ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></SignalResourceResponse>"""
_OF_A_CONNECTION = {"connection", "content-length", "expect", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request and its answer's status. `action` and `parameters` are those of a form."""

    address: str
    method: str
    host: str
    path: str
    status: int
    action: str
    parameters: dict[str, str]


@dataclass(frozen=True, eq=False)
class Aws(emulators.Aws):
    """`awaited` are the instances whose signals a stack waits for. ministack itself waits for none, so it
    refuses every signal, as AWS does from an instance that was added later."""

    asked: list[Asked] = field(default_factory=list)
    awaited: set[str] = field(default_factory=set)

    def environment(self) -> dict[str, str]:
        return {**emulators.Aws.environment(self), "AWS_CA_BUNDLE": self.trusted}

    def session(self, role: str, instance_id: str) -> Credentials:
        """What the metadata service of an instance with this role gives out."""
        arn = self.client("iam").get_role(RoleName=role)["Role"]["Arn"]
        given = self.client("sts").assume_role(RoleArn=arn, RoleSessionName=instance_id)
        found = given["Credentials"]
        return Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])

    def allow_what_ministack_does_not_know(self, role: str) -> None:
        policy = {"PolicyName": "unknown-to-it", "PolicyDocument": json.dumps(UNKNOWN_TO_IT)}
        self.client("iam").put_role_policy(RoleName=role, **policy)

    def install(self, root: Path, *buckets: str) -> None:
        """What a machine at `root` needs to find AWS and to trust it."""
        names = ["cloudformation", "monitoring", "s3", *(f"{bucket}.s3" for bucket in buckets)]
        with (root / "etc/hosts").open("a") as hosts:
            hosts.writelines(f"{HUB_ADDRESS} {name}.{DOMAIN}\n" for name in names)
        with (root / TRUSTED.lstrip("/")).open("a") as trusted:
            trusted.write(Path(self.trusted).read_text())
        # The agent's SDK and the `aws` command bring lists of their own.
        drop_in = root / "etc/systemd/system/s3sync-agent.service.d/trust.conf"
        drop_in.parent.mkdir(parents=True)
        drop_in.write_text(f"[Service]\nEnvironment=AWS_CA_BUNDLE={TRUSTED}\n")
        config = root / "root/.aws/config"
        config.parent.mkdir()
        config.write_text(f"[default]\nca_bundle = {TRUSTED}\n")


@contextmanager
def serving(hub: Hub, directory: Path) -> Iterator[Aws]:
    """AWS with nothing in it, which keeps its log and whatever it writes in `directory`, which it makes."""
    directory.mkdir()
    certificate, key = _certificate(directory)
    with _ministack(hub, directory, certificate, key):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        local = _Server(("127.0.0.1", 0), context)
        aws = Aws(f"https://localhost:{local.server_port}", str(certificate))
        servers = [local, hub.call(_Server, (HUB_ADDRESS, 443), context)]
        for server in servers:
            server.aws = aws
        threads = [hub.call(_started, server) for server in servers]
        try:
            yield aws
        finally:
            for server in servers:
                server.shutdown()
                server.server_close()
            for thread in threads:
                thread.join(timeout=10)


def _certificate(directory: Path) -> tuple[Path, Path]:
    """One that is trusted by itself, for the names of AWS here and for CI's."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    names = ["localhost", f"*.{DOMAIN}", f"*.s3.{DOMAIN}"]
    command = [
        *("openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-days", "2", "-subj", "/CN=AWS of the tests", "-keyout", str(key), "-out", str(certificate)),
        *("-addext", f"subjectAltName={','.join(f'DNS:{name}' for name in names)}"),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return certificate, key


@contextmanager
def _ministack(hub: Hub, directory: Path, certificate: Path, key: Path) -> Iterator[None]:
    """On the hub's loopback. With TLS, because policies ask whether a request came that way."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "TMPDIR": str(directory),
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(PORT),
        "MINISTACK_REGION": REGION,
        "MINISTACK_SSL_CERT": str(certificate),
        "MINISTACK_SSL_KEY": str(key),
        "SFTP_ENABLED": "0",
        "USE_SSL": "1",
    }
    program = str(emulators.TOOLS / "ministack/bin/ministack")
    log = directory / "ministack.log"
    with cgroups.group("aws") as group, log.open("wb") as output:
        process = subprocess.Popen(
            group.command(*hub.command(program)), stdout=output, stderr=output, cwd=directory, env=environ
        )
        try:
            hub.call(emulators.await_ready, process, f"https://localhost:{PORT}", log, certificate)
            yield
        finally:
            process.kill()
            process.wait(timeout=10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    aws: Aws

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext) -> None:
        super().__init__(address, _Front)
        # A handshake is the business of the thread that has the connection.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)


def _started(server: _Server) -> Thread:
    """Called in the hub, where its threads are then, too."""
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    return thread


class _Front(BaseHTTPRequestHandler):
    """Passes on what it gets, byte by byte: a signature is about the host name and the headers."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    server: _Server

    def _pass_on(self) -> None:
        body = self._body()
        upstream = HTTPSConnection("localhost", PORT, timeout=60, context=self._trusting())
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _OF_A_CONNECTION:
                    upstream.putheader(name, value)
            upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body)
            answer = upstream.getresponse()
            self._answer(body, answer, answer.read())
        finally:
            upstream.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _pass_on  # noqa: N815 - the base class's names

    def _trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.server.aws.trusted)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline() not in (b"\r\n", b""):
            pass
        return body

    def _answer(self, body: bytes, answer: HTTPResponse, content: bytes) -> None:
        status, headers = answer.status, answer.getheaders()
        form = "x-www-form-urlencoded" in self.headers.get("Content-Type", "")
        parameters = dict(parse_qsl(body.decode())) if form else {}
        action = parameters.get("Action", "")
        # Only what ministack says about the stack is replaced, not what it says about who asks.
        if b"cannot be signaled" in content and parameters.get("UniqueId") in self.server.aws.awaited:
            status, content = 200, _SIGNAL_TAKEN
        asked = Asked(
            *(self.client_address[0], self.command, self.headers.get("Host", ""), self.path, status),
            *(action, parameters),
        )
        self.server.aws.asked.append(asked)
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _OF_A_CONNECTION:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        if length is not None and status not in (204, 304):
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """What was asked is in `Aws.asked`."""
