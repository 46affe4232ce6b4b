"""A network of its own: a hub, where S3, the metadata service and the visitors are, and a cable
from it to every machine.

The hub's bridge has 10.77.0.1 and the address of the metadata service. Nothing in here reaches the
outside or is reached from there.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

PREFIX = "s3sync-"
HUB = f"{PREFIX}hub"
HUB_ADDRESS = "10.77.0.1"
METADATA_ADDRESS = "169.254.169.254"
VISITORS = 8

_CLONE_NEWNET = 0x4000_0000

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hub:
    """Code run by `call` and `submit` has its sockets in the hub, whoever uses them afterwards."""

    _threads: ThreadPoolExecutor

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self._threads.submit(function, *args, **kwargs)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self.submit(function, *args, **kwargs).result()

    @staticmethod
    def command(*command: str) -> list[str]:
        """The command, to be run in the hub."""
        return ["nsenter", f"--net={_path(HUB)}", "--", *command]


@contextmanager
def hub() -> Iterator[Hub]:
    _ip("netns", "add", HUB)
    try:
        _ip("-n", HUB, "link", "set", "lo", "up")
        _ip("-n", HUB, "link", "add", "br0", "type", "bridge")
        _ip("-n", HUB, "address", "add", f"{HUB_ADDRESS}/24", "dev", "br0")
        _ip("-n", HUB, "address", "add", f"{METADATA_ADDRESS}/32", "dev", "br0")
        _ip("-n", HUB, "link", "set", "br0", "up")
        with ThreadPoolExecutor(VISITORS, initializer=_enter, initargs=(HUB,)) as threads:
            yield Hub(threads)
    finally:
        _ip("netns", "delete", HUB)


@dataclass(frozen=True, slots=True)
class Cable:
    """A machine's end of a cable to the hub: `address` on eth0 of `namespace`."""

    namespace: Path
    address: str

    @contextmanager
    def without(self, port: int) -> Iterator[None]:
        """Nobody is reached on that port from here: what is connected breaks, nothing new gets through."""
        rule = ("pref", "1", "ipproto", "tcp", "dport", str(port), "unreachable")
        _ip("-n", self.namespace.name, "rule", "add", *rule)
        try:
            inside = ["nsenter", f"--net={self.namespace}", "--"]
            subprocess.run(
                [*inside, "ss", "--kill", "dport", "=", str(port)],
                check=True,
                capture_output=True,
                timeout=10,
            )
            yield
        finally:
            _ip("-n", self.namespace.name, "rule", "delete", *rule)


@contextmanager
def cable(number: int) -> Iterator[Cable]:
    """The `number`th machine's, 1 to 200."""
    name, address = f"{PREFIX}m{number}", f"10.77.0.{10 + number}"
    outlet = f"v{number}"
    _ip("netns", "add", name)
    try:
        _ip("-n", HUB, "link", "add", outlet, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("-n", HUB, "link", "set", outlet, "master", "br0", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "route", "add", "default", "via", HUB_ADDRESS)
        yield Cable(_path(name), address)
    finally:
        _ip("netns", "delete", name)


def sweep() -> None:
    """Remove what a test run that died has left."""
    for left in sorted(Path("/run/netns").glob(f"{PREFIX}*")):
        _ip("netns", "delete", left.name)


def _path(name: str) -> Path:
    return Path("/run/netns") / name


def _enter(name: str) -> None:
    """Move the calling thread, and no other, into the namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with _path(name).open() as namespace:
        if libc.setns(namespace.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {name}")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr}")
