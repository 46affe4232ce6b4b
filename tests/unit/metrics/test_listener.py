"""The endpoint for Prometheus: it answers, whoever else is there."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest

from s3sync_agent.errors import MetricsNotTaken
from s3sync_agent.metrics import listener as listener_module
from s3sync_agent.metrics.listener import CLIENTS_AT_MOST, Listener
from s3sync_agent.metrics.prometheus import registry
from s3sync_agent.values import Address
from tests.servers import free_ports
from tests.statuses import STATUS


@pytest.fixture
def address() -> Address:
    return Address("127.0.0.1", free_ports(1)[0])


@pytest.fixture
def listener(address: Address) -> Iterator[Listener]:
    listener = Listener(address, lambda: STATUS)
    listener.export()
    yield listener
    listener.close()


def scrape(address: Address) -> bytes:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        body: bytes = answer.read()
        return body


def connect(address: Address) -> socket.socket:
    return socket.create_connection((address.host, address.port), timeout=5)


@pytest.mark.usefixtures("listener")
def test_prometheus_gets_the_text(address: Address) -> None:
    assert scrape(address) == generate_latest(registry(lambda: STATUS))


def test_a_second_export_has_nothing_to_do(listener: Listener, address: Address) -> None:
    listener.export()
    assert scrape(address)


def test_it_listens_on_ipv6_as_well() -> None:
    address = Address("::1", free_ports(1)[0])
    listener = Listener(address, lambda: STATUS)
    try:
        listener.export()
        assert scrape(address)
    finally:
        listener.close()


def test_a_port_that_is_taken_is_named(address: Address) -> None:
    with socket.create_server((address.host, address.port)):
        listener = Listener(address, lambda: STATUS)
        with pytest.raises(MetricsNotTaken, match=rf"{address}: Address already in use"):
            listener.export()
        listener.close()


def test_its_port_is_free_again_when_it_has_ended(address: Address) -> None:
    for _ in range(2):
        listener = Listener(address, lambda: STATUS)
        listener.export()
        assert scrape(address)
        listener.close()
    with pytest.raises(urllib.error.URLError):
        scrape(address)


@pytest.mark.usefixtures("listener")
def test_clients_that_say_nothing_keep_nobody_waiting(address: Address) -> None:
    silent = [connect(address) for _ in range(3 * CLIENTS_AT_MOST)]
    started = time.monotonic()
    assert scrape(address)
    assert time.monotonic() - started < 2
    for client in silent:
        client.close()


@pytest.mark.usefixtures("listener")
def test_of_too_many_clients_the_longest_there_goes(address: Address) -> None:
    first, *others = [connect(address) for _ in range(CLIENTS_AT_MOST + 1)]
    assert first.recv(1) == b""
    for client in (first, *others):
        client.close()


@pytest.mark.usefixtures("listener")
def test_a_client_that_dawdles_is_cut_off(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "CLIENT_SECONDS", 0.2)
    with connect(address) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
        assert client.recv(1) == b""


def test_clients_of_a_listener_that_ended_are_cut_off(address: Address) -> None:
    listener = Listener(address, lambda: STATUS)
    listener.export()
    with connect(address) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert scrape(address)  # so the first one has been let in
        listener.close()
        assert client.recv(1) == b""


def test_a_status_that_cannot_be_read_is_a_failed_scrape_and_the_next_may_succeed(address: Address) -> None:
    broken = [True]

    def read() -> object:
        if broken[0]:
            raise OSError(5, "Input/output error")
        return STATUS

    listener = Listener(address, read)  # type: ignore[arg-type]  # what breaks is part of the test
    listener.export()
    try:
        with pytest.raises(OSError, match="closed connection"):
            scrape(address)
        broken[0] = False
        assert scrape(address)
    finally:
        listener.close()
