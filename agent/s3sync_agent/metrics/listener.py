"""The metrics for a Prometheus that asks over HTTP, on loopback.

The library's own server waits for ever for a client that says nothing, and starts a thread for each. Here
a client gets a few seconds, and when there are too many, the one that has been there longest goes.
"""

from __future__ import annotations

import socket
import threading
import time
from socketserver import ThreadingTCPServer
from typing import Any

from prometheus_client import MetricsHandler

from s3sync_agent.errors import MetricsNotTaken
from s3sync_agent.metrics.prometheus import registry
from s3sync_agent.metrics.table import Read
from s3sync_agent.values import Address

CLIENT_SECONDS = 5.0
CLIENTS_AT_MOST = 8
_LOOK_EVERY = 0.5

# What socketserver passes around; over TCP a request is a socket.
_Request = Any
_Address = Any


class Listener:
    """Listens from the first export that could; later ones have nothing to do."""

    def __init__(self, address: Address, read: Read) -> None:
        self._address = address
        self._handler = MetricsHandler.factory(registry(read))
        self._server: _Server | None = None

    def export(self) -> None:
        """Raises MetricsNotTaken when that is impossible."""
        if self._server is None:
            try:
                self._server = _Server(self._address, self._handler)
            except OSError as error:
                raise MetricsNotTaken(
                    f"listen on {self._address}: {error.strerror}", hint="choose another metrics_listen"
                ) from error
            threading.Thread(
                target=self._server.serve_forever, args=(_LOOK_EVERY,), name="metrics-clients", daemon=True
            ).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Server(ThreadingTCPServer):
    """Not http.server's: that one asks DNS for the name of its address."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = (
        64  # of five that wait, as many as by default, a sixth waits a second for its next try
    )

    def __init__(self, address: Address, handler: type[MetricsHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._guard = threading.Lock()
        self._since: dict[socket.socket, float] = {}  # clients, the longest there first
        super().__init__((address.host, address.port), handler)

    def process_request(self, request: _Request, client_address: _Address) -> None:
        with self._guard:
            if len(self._since) >= CLIENTS_AT_MOST:
                longest = next(iter(self._since))
                del self._since[longest]
                _hang_up(longest)
            self._since[request] = time.monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Called all the while: whoever takes too long, to ask or to listen, is cut off."""
        now = time.monotonic()
        with self._guard:
            for client, since in self._since.items():
                if now - since > CLIENT_SECONDS:
                    _hang_up(client)

    def shutdown_request(self, request: _Request) -> None:
        with self._guard:
            self._since.pop(request, None)
            super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        with self._guard:
            for client in self._since:
                _hang_up(client)

    def handle_error(self, request: _Request, client_address: _Address) -> None:
        """A client that went away, or a disk that cannot be read: who scrapes sees that it failed."""


def _hang_up(client: socket.socket) -> None:
    """Wakes the thread that waits for it, which then closes it."""
    try:
        client.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has just gone by itself
        return
