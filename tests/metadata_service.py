"""EC2's metadata service, played by a small server on loopback that wants tokens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from s3sync_agent.imds import Metadata

TOKEN = "made-up-token"
LIFECYCLE = "autoscaling/target-lifecycle-state"
SPOT = "spot/instance-action"


class Service:
    """`documents` are by the path below `meta-data`; `asked` is method and path."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.documents = {"instance-id": "i-0123", "placement/availability-zone": "eu-central-1a"}
        self.asked: list[str] = []
        self.gives_tokens = True
        self.hangs = threading.Event()
        self.over = threading.Event()

    @property
    def environ(self) -> dict[str, str]:
        """What makes a process ask here."""
        return {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.endpoint}

    def terminate(self) -> None:
        self.documents[LIFECYCLE] = "Terminated"

    @property
    def metadata(self) -> Metadata:
        return Metadata({"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.endpoint})


@contextmanager
def metadata_service() -> Iterator[Service]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            told.asked.append(f"PUT {self.path}")
            lifetime = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
            good = told.gives_tokens and self.path == "/latest/api/token" and 1 <= int(lifetime) <= 21600
            self._answer(200 if good else 403, TOKEN if good else "")

        def do_GET(self) -> None:
            told.asked.append(f"GET {self.path}")
            if told.hangs.is_set():
                told.over.wait(10)
            found = told.documents.get(self.path.removeprefix("/latest/meta-data/"))
            if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
                return self._answer(401, "")
            return self._answer(404 if found is None else 200, found or "")

        def _answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            """What was asked is in `asked`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        told = Service(server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield told
        finally:
            told.over.set()
            server.shutdown()
            thread.join()
