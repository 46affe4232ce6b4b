"""The probe, against servers that answer exactly what a test says, byte by byte."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from s3sync_agent.probe import MOST_BYTES, PASSED, PATH_SECONDS, TOTAL_SECONDS, Kind, Probe

Answer = Callable[[socket.socket], None]
SLACK = 0.15  # what a busy machine adds to a time limit


class Server:
    """On loopback; `answers` are by path, `asked` is what came, whole."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.over = threading.Event()

    def probe(self, *paths: str, host: str = "") -> Probe:
        return Probe(self.url, host, paths or ("/",))


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += self.request.recv(4096)
            told.asked.append(request.decode("ascii"))
            told.answers.get(request.split()[1].decode(), says(200))(self.request)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        told = Server(listening.server_address[1])
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield told
        told.over.set()
        listening.shutdown()
        thread.join()


def says(status: int, body: bytes = b"ok", *, promised: int | None = None, more: str = "") -> Answer:
    length = len(body) if promised is None else promised
    head = f"HTTP/1.1 {status} Said So\r\nContent-Length: {length}\r\n{more}\r\n".encode()
    return sends(head + body)


def sends(raw: bytes) -> Answer:
    def answer(connection: socket.socket) -> None:
        connection.sendall(raw)

    return answer


def drips(server: Server, raw: bytes, every: float) -> Answer:
    """A byte now and then, each of them in time for a limit that is only between bytes."""

    def answer(connection: socket.socket) -> None:
        for position in range(len(raw)):
            try:
                connection.sendall(raw[position : position + 1])
            except OSError:
                return
            if server.over.wait(every):
                return

    return answer


def says_nothing(server: Server) -> Answer:
    def answer(_connection: socket.socket) -> None:
        server.over.wait(10)

    return answer


# ---------------------------------------------------------------------------- verdicts


def test_200_for_every_path_passes(server: Server) -> None:
    assert server.probe("/", "/about/").run() == PASSED
    assert [request.split()[1] for request in server.asked] == ["/", "/about/"]


def test_visitors_are_asked_for_by_their_name(server: Server) -> None:
    server.probe(host="www.example.com").run()
    server.probe().run()
    assert "\r\nHost: www.example.com\r\n" in server.asked[0]
    assert f"\r\nHost: {server.url.removeprefix('http://')}\r\n" in server.asked[1]


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 403, 404, 410, 500, 501, 503])
def test_any_other_answer_is_wrong_and_says_what_was_expected(server: Server, status: int) -> None:
    server.answers["/about/"] = says(status, b"" if status in (204, 304) else b"no")
    verdict = server.probe("/", "/about/").run()
    assert (verdict.kind, verdict.reason) == (Kind.WRONG, f"/about/: answered {status}, expected 200")


def test_a_redirect_is_wrong_is_not_followed_and_says_where_to(server: Server) -> None:
    server.answers["/"] = says(302, more="Location: /en/\r\n")
    verdict = server.probe().run()
    assert (verdict.kind, verdict.reason) == (Kind.WRONG, "/: answered 302 to /en/, expected 200")
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [408, 429, 502, 504])
def test_what_says_that_the_question_did_not_get_through_is_no_verdict(server: Server, status: int) -> None:
    server.answers["/"] = says(status)
    verdict = server.probe().run()
    assert verdict.kind is Kind.UNANSWERED
    assert f"/: answered {status}" in verdict.reason


def test_a_wrong_answer_decides_whatever_else_was_not_answered(server: Server) -> None:
    server.answers = {"/slow": says_nothing(server), "/bad": says(404)}
    verdict = server.probe("/slow", "/bad").run()
    assert (verdict.kind, verdict.reason) == (Kind.WRONG, "/bad: answered 404, expected 200")


def test_after_a_wrong_answer_nothing_more_is_asked(server: Server) -> None:
    server.answers["/"] = says(404)
    server.probe("/", "/about/").run()
    assert len(server.asked) == 1


# -------------------------------------------------------------------------- no answer


def test_where_nobody_listens_nothing_was_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    verdict = Probe(f"http://127.0.0.1:{port}", "", ["/"]).run()
    assert (verdict.kind, verdict.reason) == (Kind.UNANSWERED, "/: Connection refused")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n",
    ],
    ids=[
        "nothing",
        "half a head",
        "ssh",
        "tls",
        "many lines",
        "a long line",
        "half",
        "half a chunk",
        "no chunk",
    ],
)
def test_what_is_no_whole_answer_is_none(server: Server, raw: bytes) -> None:
    server.answers["/"] = sends(raw)
    verdict = server.probe().run()
    assert verdict.kind is Kind.UNANSWERED
    assert verdict.reason.startswith("/: ")
    assert verdict.reason.isprintable()


def test_silence_ends_in_time(server: Server) -> None:
    server.answers["/"] = says_nothing(server)
    began = time.monotonic()
    verdict = server.probe().run()
    assert PATH_SECONDS <= time.monotonic() - began < PATH_SECONDS + SLACK
    assert (verdict.kind, verdict.reason) == (Kind.UNANSWERED, "/: no answer in time")


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100,
    ],
    ids=["head", "hundreds", "body"],
)
def test_an_answer_that_drips_ends_in_time_too(server: Server, raw: bytes) -> None:
    server.answers["/"] = drips(server, raw, 0.05)
    began = time.monotonic()
    verdict = server.probe().run()
    assert time.monotonic() - began < PATH_SECONDS + SLACK
    assert verdict.kind is Kind.UNANSWERED


def test_ten_paths_that_nobody_answers_take_no_more_than_all_together_may(server: Server) -> None:
    paths = [f"/{number}" for number in range(10)]
    server.answers = {path: says_nothing(server) for path in paths}
    began = time.monotonic()
    assert server.probe(*paths).run().kind is Kind.UNANSWERED
    assert time.monotonic() - began < TOTAL_SECONDS + SLACK
    assert TOTAL_SECONDS <= 0.8, "falling back has to be done a second after the swap"


def test_an_address_where_connections_wait_for_ever_ends_in_time() -> None:
    """A server whose queue is full answers no SYN."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        began = time.monotonic()
        verdict = Probe(f"http://127.0.0.1:{address[1]}", "", ["/"]).run()
        assert time.monotonic() - began < PATH_SECONDS + SLACK
        for each in waiting:
            each.close()
    assert verdict.kind is Kind.UNANSWERED


# ------------------------------------------------------------------------------ limits


def test_of_a_long_answer_the_beginning_is_enough(server: Server) -> None:
    sent = 0

    def endless(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while not server.over.is_set():
            try:
                connection.sendall(b"x" * 4096)
            except OSError:
                return
            sent += 4096

    server.answers["/"] = endless
    assert server.probe().run() == PASSED
    time_to_notice = time.monotonic() + 5
    before = -1
    while sent != before and time.monotonic() < time_to_notice:
        before = sent
        server.over.wait(0.05)
    assert sent < 100 * MOST_BYTES, "the connection was left as soon as there was enough"


def test_a_path_in_any_script_is_asked_for_as_browsers_do(server: Server) -> None:
    server.probe("/größe/a b?x=1&y=%20").run()
    assert server.asked[0].split()[1] == "/gr%C3%B6%C3%9Fe/a%20b?x=1&y=%20"


@pytest.mark.parametrize(
    ("url", "host", "path"),
    [
        ("http://127.0.0.1:99999", "", "/"),
        ("http://[", "", "/"),
        ("nothing", "", "/"),
        ("http://127.0.0.1:1", "größe", "/"),
        ("http://127.0.0.1:1", "", "/\udce9"),
        ("http://127.0.0.1:1", "", "/a\r\nX: y"),
    ],
)
def test_it_never_raises_whatever_it_was_given(url: str, host: str, path: str) -> None:
    verdict = Probe(url, host, [path]).run()
    assert verdict.kind is Kind.UNANSWERED
    assert verdict.reason.isprintable()


def test_no_proxy_comes_between(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert server.probe().run() == PASSED


def test_what_a_server_says_cannot_forge_a_line(server: Server) -> None:
    server.answers["/"] = says(301, more="Location: /\x1b[2J\xff\r\n".encode("latin-1").decode("latin-1"))
    assert server.probe().run().reason.isprintable()
