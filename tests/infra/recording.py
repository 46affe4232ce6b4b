"""A way to S3 that writes down every request together with its answer, and what IAM is asked for each.

with recording(server.endpoint) as recorder:
    ...
recorder.permissions()
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree as ET

from tests.infra.policies import Request

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "expect"}


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request to S3, path-style, and the status of its answer."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def bucket(self) -> str:
        return self._path[0]

    @property
    def key(self) -> str:
        """Empty for a request about the bucket."""
        return self._path[1]

    @property
    def query(self) -> dict[str, str]:
        parsed = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        return {name: values[0] for name, values in parsed.items()}

    @property
    def _path(self) -> tuple[str, str]:
        bucket, _, key = unquote(urlsplit(self.target).path).lstrip("/").partition("/")
        return bucket, key

    def __str__(self) -> str:
        return f"{self.method} {self.target} → {self.status}"


def permissions(exchange: Exchange) -> list[Request]:
    """What IAM is asked before S3 answers so. Raises for a request that is not known here.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
    """
    bucket = f"arn:aws:s3:::{exchange.bucket}"
    this = f"{bucket}/{exchange.key}"
    query = exchange.query
    match exchange.method, bool(exchange.key):
        case "HEAD", False:
            return [Request("s3:ListBucket", bucket)]
        case "GET", False if "list-type" in query:
            return [Request("s3:ListBucket", bucket, {"s3:prefix": query.get("prefix", "")})]
        case "POST", False if "delete" in query:
            return [Request("s3:DeleteObject", f"{bucket}/{key}") for key in _deleted(exchange.body)]
        case (("GET" | "HEAD"), True) if not query.keys() - {"x-id"}:
            # Whoever may not list the bucket is told 403, not 404; the prefix is then the whole key.
            missing = [Request("s3:ListBucket", bucket, {"s3:prefix": exchange.key})]
            return [Request("s3:GetObject", this), *(missing if exchange.status == 404 else [])]
        case "PUT", True if "x-amz-copy-source" in exchange.headers:
            source = unquote(exchange.headers["x-amz-copy-source"]).lstrip("/")
            return [Request("s3:GetObject", f"arn:aws:s3:::{source}"), Request("s3:PutObject", this)]
        case (("PUT" | "POST"), True):
            # To compare with what is there is to read it.
            reads = [Request("s3:GetObject", this)] if "if-match" in exchange.headers else []
            return [Request("s3:PutObject", this), *reads]
        case "DELETE", True if "uploadId" in query:
            return [Request("s3:AbortMultipartUpload", this)]
    raise NotImplementedError(f"what IAM is asked for {exchange}")


def _deleted(body: bytes) -> list[str]:
    tree = ET.fromstring(body)  # noqa: S314  # written by the SDK in this test
    return [found.text or "" for found in tree.iterfind("{*}Object/{*}Key")]


class Recorder(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(endpoint).netloc
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.exchanges: list[Exchange] = []

    def permissions(self) -> list[Request]:
        """Each once, in the order in which they were first needed."""
        found: dict[str, Request] = {}
        for exchange in self.exchanges:
            for request in permissions(exchange):
                found.setdefault(str(request), request)
        return list(found.values())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        recorder = cast("Recorder", self.server)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        upstream = http.client.HTTPConnection(recorder.upstream, timeout=30)
        upstream.request(self.command, self.path, body=body, headers=headers)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        lowered = {name.lower(): value for name, value in headers.items()}
        recorder.exchanges.append(Exchange(self.command, self.path, lowered, body, answer.status))
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        length = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward  # noqa: N815  # names of the base class

    def log_message(self, *_: object) -> None:
        """The exchanges are the log."""


@contextmanager
def recording(endpoint: str) -> Iterator[Recorder]:
    with Recorder(endpoint) as recorder:
        thread = threading.Thread(target=recorder.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield recorder
        finally:
            recorder.shutdown()
            thread.join(timeout=5)
