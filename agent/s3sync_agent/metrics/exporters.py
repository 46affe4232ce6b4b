"""Who gets the metrics: those that the settings name, each in a thread of its own.

So nothing that hangs there disturbs a tick or a swap. The exporters themselves are imported by who is set
and by nobody else: each brings a library, and memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from s3sync_agent.metrics.repeater import Event, Exporter, Repeater
from s3sync_agent.metrics.table import Read
from s3sync_agent.settings import Settings
from s3sync_agent.values import Address

PROMETHEUS_EVERY = 15.0
CLOUDWATCH_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class Receiver:
    """Somebody to hand metrics to. One that is equal to the one before needs no restart."""

    make: Callable[..., Exporter]
    arguments: tuple[Any, ...]
    every: float


def receivers(settings: Settings) -> dict[str, Receiver]:
    """By the name under which events tell about them."""
    found = {}
    if settings.metrics_textfile is not None:
        found["textfile"] = Receiver(_text_file, (settings.metrics_textfile,), PROMETHEUS_EVERY)
    if settings.metrics_listen is not None:
        found["listen"] = Receiver(_listener, (settings.metrics_listen,), PROMETHEUS_EVERY)
    if settings.cloudwatch_namespace is not None:
        where = (settings.cloudwatch_namespace, settings.cloudwatch_group)
        found["cloudwatch"] = Receiver(_cloudwatch, where, CLOUDWATCH_EVERY)
    return found


def _text_file(path: Path, read: Read) -> Exporter:
    from s3sync_agent.metrics.textfile import TextFile  # noqa: PLC0415 - see above

    return TextFile(path, read)


def _listener(address: Address, read: Read) -> Exporter:
    from s3sync_agent.metrics.listener import Listener  # noqa: PLC0415 - see above

    return Listener(address, read)


def _cloudwatch(namespace: str, group: str, read: Read) -> Exporter:
    from s3sync_agent.metrics.cloudwatch import CloudWatch  # noqa: PLC0415 - see above

    return CloudWatch(namespace, group, read)


class Exporters:
    """`read` is asked, and `event` called, from their threads. No method waits longer than it says."""

    def __init__(self, read: Read, event: Event) -> None:
        self._read = read
        self._event = event
        # Without a receiver: one that was told to end, and may hold its port or file for a moment yet.
        self._running: dict[str, tuple[Receiver | None, Repeater]] = {}

    def apply(self, settings: Settings) -> None:
        """Start what is set, end what no longer is; what stays as it was goes on."""
        before, self._running = self._running, {}
        for to, receiver in receivers(settings).items():
            former, repeater = before.pop(to, (None, None))
            if receiver != former or repeater is None:
                repeater = self._restart(to, receiver, repeater)
            self._running[to] = (receiver, repeater)
        for to, (_, repeater) in before.items():
            repeater.end()
            self._running[to] = (None, repeater)

    def _restart(self, to: str, receiver: Receiver, former: Repeater | None) -> Repeater:
        if former is not None:
            former.end()
        make = partial(receiver.make, *receiver.arguments, self._read)
        repeater = Repeater(to, make, receiver.every, self._event, after=former)
        repeater.start()
        return repeater

    def told(self) -> None:
        """The status has been written anew: the file follows."""
        if "textfile" in self._running:
            self._running["textfile"][1].hurry()

    def stop(self, within: float) -> None:
        """End them all; who does not listen is left behind."""
        until = time.monotonic() + within
        for _, repeater in self._running.values():
            repeater.end()
        for _, repeater in self._running.values():
            repeater.join(max(0.0, until - time.monotonic()))
