"""A way to S3 that writes down every request, and can let several of them arrive before one goes on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedIOBase
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import cast
from urllib.parse import unquote, urlsplit

MEET_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Asked:
    """`target` is the path and query as they were sent."""

    method: str
    target: str
    length: int

    @property
    def key(self) -> str:
        """The object's key, or "" for a request about the bucket."""
        return unquote(urlsplit(self.target).path).lstrip("/").partition("/")[2]

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


class Counter(ThreadingTCPServer):
    """Forwards HTTP on loopback to an S3 server. Requests are parsed, answers are passed on as they are."""

    daemon_threads = True

    def __init__(self, endpoint: str) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        upstream = urlsplit(endpoint)
        self.upstream = (upstream.hostname or "127.0.0.1", upstream.port or 80)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked: list[Asked] = []
        self._meeting: tuple[Callable[[Asked], bool], threading.Barrier] | None = None

    def forget(self) -> None:
        self.asked.clear()

    def pack_requests(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.key.endswith(".pack")]

    def let_meet(self, parties: int, which: Callable[[Asked], bool]) -> None:
        """From now on such requests wait until so many have arrived, then all go on at once; those that
        come later are not held."""
        self._meeting = (which, threading.Barrier(parties))

    def note(self, asked: Asked) -> None:
        self.asked.append(asked)
        if self._meeting is not None and self._meeting[0](asked):
            # Somebody who never comes, because it gave up before: then nobody is waited for any more.
            with suppress(threading.BrokenBarrierError):
                self._meeting[1].wait(MEET_SECONDS)
                self._meeting = None


class _Connection(StreamRequestHandler):
    def handle(self) -> None:
        counter = cast("Counter", self.server)
        with socket.create_connection(counter.upstream) as upstream:
            answers = threading.Thread(target=_pass_on, args=(upstream, self.connection), daemon=True)
            answers.start()
            with suppress(OSError):  # whoever hangs up has what it wanted
                while request := _read_head(self.rfile):
                    head, asked = request
                    counter.note(asked)
                    upstream.sendall(head)
                    _copy(self.rfile, upstream, asked.length)
                upstream.shutdown(socket.SHUT_WR)
            answers.join(timeout=5)


def _read_head(stream: BufferedIOBase) -> tuple[bytes, Asked] | None:
    """The next request without its body; None when the client has ended."""
    head = first = stream.readline()
    length = 0
    while line := stream.readline():
        head += line
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        assert name.lower() != b"transfer-encoding", "botocore sends its bodies with their length"
        if line == b"\r\n":
            method, target, _ = first.decode().split()
            return head, Asked(method, target, length)
    return None


def _copy(source: BufferedIOBase, target: socket.socket, length: int) -> None:
    while length and (data := source.read1(min(length, 65536))):
        target.sendall(data)
        length -= len(data)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def counted(endpoint: str) -> Iterator[Counter]:
    with Counter(endpoint) as counter:
        thread = threading.Thread(target=counter.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield counter
        finally:
            counter.shutdown()
            thread.join(timeout=5)
