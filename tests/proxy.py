"""A way to S3 that can go silent: connections stay open and nothing comes back."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class Proxy:
    """Forwards TCP on loopback until `hang`, and again after `resume`."""

    def __init__(self, endpoint: str) -> None:
        target = urlsplit(endpoint)
        self._target = (target.hostname or "127.0.0.1", target.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._flowing = threading.Event()
        self._flowing.set()
        self._closed = threading.Event()
        self._arrived = threading.Condition()
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.held = 0

    def hang(self) -> None:
        """From now on, requests arrive and are not answered."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def wait_for_request(self, *, seconds: float = 20.0) -> None:
        """Until a request is being held."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: self.held > 0, timeout=seconds), "nobody asked"

    def serve(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        self._flowing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _forward(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server, selectors.DefaultSelector() as both:
            both.register(client, selectors.EVENT_READ, server)
            both.register(server, selectors.EVENT_READ, client)
            while not self._closed.is_set():
                for key, _ in both.select(timeout=1):
                    source, target = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    try:
                        data = source.recv(65536)
                        if not data:
                            return
                        self._hold()
                        target.sendall(data)
                    except OSError:
                        return

    def _hold(self) -> None:
        if self._flowing.is_set():
            return
        with self._arrived:
            self.held += 1
            self._arrived.notify_all()
        self._flowing.wait()


@contextmanager
def proxied(endpoint: str) -> Iterator[Proxy]:
    proxy = Proxy(endpoint)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join(timeout=5)
