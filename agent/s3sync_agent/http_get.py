"""One HTTP request whose end is certain: by an instant, and with no more than so many bytes.

`http.client` alone bounds each read and not their sum, so a server that sends a byte now and then could keep
its caller for ever. No redirect is followed, no proxy asked, no connection kept.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast


class ConnectionBroke(OSError):
    """The answer ended before the length that it had announced."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`location` is where a redirect leads to, or ""; `body` at most as long as was asked for."""

    status: int
    location: str
    body: bytes


def exchange(
    address: tuple[str, int],
    path: str,
    *,
    deadline: float,
    limit: int,
    method: str = "GET",
    headers: Mapping[str, str],
) -> Answer:
    """Ask `address` for `path` until `deadline`, an instant of time.monotonic().

    Path and headers are sent as they are: the caller answers for their being printable ASCII. Raises OSError,
    of which TimeoutError is one, and HTTPException for what is no answer in HTTP.
    """
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    request = "\r\n".join([*lines, "Connection: close", "", ""]).encode("ascii")
    with socket.create_connection(address, timeout=_left(deadline)) as connection:
        connection.settimeout(_left(deadline))
        connection.sendall(request)
        source = _Source(connection, deadline)
        # Of a socket it asks for nothing but a file to read from.
        response = http.client.HTTPResponse(cast("socket.socket", source), method=method)
        with response:
            response.begin()
            if source.ended:  # which http.client takes for the end of the head
                raise ConnectionBroke("the connection broke in the head of the answer")
            announced = response.length
            body = response.read(limit)
    if announced is not None and len(body) < min(announced, limit):
        raise ConnectionBroke(f"the connection broke after {len(body)} of {announced} bytes")
    return Answer(response.status, response.getheader("Location", ""), body)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


class _Source(io.RawIOBase):
    """What a connection sends until the deadline."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self.ended = False

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # any writable buffer
        self._connection.settimeout(_left(self._deadline))
        received = self._connection.recv_into(buffer)
        self.ended = received == 0
        return received
