"""EC2's metadata service, played by a small server on loopback that wants tokens."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from s3sync_agent.imds import REQUEST_SECONDS, Metadata

TOKEN = "made-up-token"
LIFECYCLE = "autoscaling/target-lifecycle-state"
SPOT = "spot/instance-action"
SLACK = 0.3


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
    def metadata(self) -> Metadata:
        return Metadata({"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.endpoint})


@pytest.fixture
def service() -> Iterator[Service]:
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
        yield told
        told.over.set()
        server.shutdown()
        thread.join()


# ------------------------------------------------------------------------------- where


def test_an_instance_knows_its_id_and_zone_by_token(service: Service) -> None:
    assert service.metadata.whereabouts() == ("i-0123", "eu-central-1a")
    assert service.asked[0] == "PUT /latest/api/token"


def test_a_zone_that_is_not_told_is_left_out(service: Service) -> None:
    del service.documents["placement/availability-zone"]
    assert service.metadata.whereabouts() == ("i-0123", "")


def test_an_endpoint_may_end_in_a_slash(service: Service) -> None:
    service.endpoint += "/"
    assert service.metadata.whereabouts() == ("i-0123", "eu-central-1a")


def test_elsewhere_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        endpoint = f"http://127.0.0.1:{gone.getsockname()[1]}"
    metadata = Metadata({"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint})
    assert metadata.whereabouts() is None
    assert not metadata.is_terminating()


def test_where_it_is_switched_off_it_is_not_asked(service: Service) -> None:
    metadata = Metadata(
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT": service.endpoint, "AWS_EC2_METADATA_DISABLED": "True"}
    )
    service.documents[LIFECYCLE] = "Terminated"
    assert metadata.whereabouts() is None
    assert not metadata.is_terminating()
    assert service.asked == []


def test_without_a_token_nothing_is_asked(service: Service) -> None:
    service.gives_tokens = False
    assert service.metadata.whereabouts() is None
    assert service.asked == ["PUT /latest/api/token"]


@pytest.mark.parametrize(
    "endpoint", ["http://[", "http://127.0.0.1:99999", "nowhere", "http://127.0.0.1:1/\n"]
)
def test_an_endpoint_that_is_none_is_nobody(endpoint: str) -> None:
    assert Metadata({"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint}).whereabouts() is None


def test_a_service_that_hangs_is_waited_for_in_bounds(service: Service) -> None:
    service.hangs.set()
    service.documents[LIFECYCLE] = "Terminated"
    began = time.monotonic()
    assert service.metadata.whereabouts() is None
    assert time.monotonic() - began < REQUEST_SECONDS + SLACK
    assert not service.metadata.is_terminating()
    assert time.monotonic() - began < 3 * REQUEST_SECONDS + 2 * SLACK


@pytest.mark.parametrize("said", ["i-\n0123", "größe", "x" * 100_000, "i-\x1b[2J"])
def test_what_is_no_name_is_none(service: Service, said: str) -> None:
    service.documents["instance-id"] = said
    assert service.metadata.whereabouts() is None


# ------------------------------------------------------------------------- terminating


@pytest.mark.parametrize("state", [None, "InService", "Standby", "Warmed:Stopped", "Detached", ""])
def test_an_instance_that_stays_is_not_terminating(service: Service, state: str | None) -> None:
    if state is not None:
        service.documents[LIFECYCLE] = state
    assert not service.metadata.is_terminating()


def test_one_that_its_group_ends_is(service: Service) -> None:
    service.documents[LIFECYCLE] = "Terminated"
    assert service.metadata.is_terminating()


@pytest.mark.parametrize(
    ("notice", "is_terminating"),
    [
        ('{"action": "terminate", "time": "2026-11-24T08:22:00Z"}', True),
        ('{"action": "stop", "time": "2026-11-24T08:22:00Z"}', False),
        ('{"action": "hibernate"}', False),
        ('"terminate"', False),
        ("{", False),
        ("[" * 4000, False),
    ],
)
def test_a_spot_instance_is_when_its_notice_says_so(
    service: Service, notice: str, is_terminating: bool
) -> None:
    service.documents |= {LIFECYCLE: "InService", SPOT: notice}
    assert service.metadata.is_terminating() is is_terminating
