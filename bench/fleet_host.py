"""Several agents in one process, for bench/fleet.py.

Each is the daemon as it is: its loop, its worker, its prober and its heartbeat, a thread each. They share a
process, and so the interpreter's lock, S3's client and its connections; two parts of the daemon are left out
for that (see `Member`).

A plan comes first on stdin; every line after it is answered by a report of all that has happened so far. At
the end of stdin the agents stop.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path, PosixPath
from signal import Signals
from typing import Self
from urllib.parse import urlsplit

import msgspec
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
from botocore.httpsession import URLLib3Session

from s3sync_agent import logs
from s3sync_agent.bucket.s3 import PATIENT, S3Bucket
from s3sync_agent.clock import SystemClock
from s3sync_agent.daemon import Daemon, Wake
from s3sync_agent.imds import Metadata
from s3sync_agent.notify import Notifier
from s3sync_agent.report import LogAndStatusFile
from s3sync_agent.settings import Settings, load
from s3sync_agent.webroot import Armed, Webroot

STOP_SECONDS = 20.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`folder` is where the instances are, `log` where they report to."""

    site: str
    identities: tuple[str, ...]
    folder: str
    log: str
    poll_interval: float


class Swap(msgspec.Struct, frozen=True):
    """`live` of an instance was renamed; nanoseconds since 1970."""

    identity: str
    release: str
    at: int


class Report(msgspec.Struct, frozen=True):
    """`requests` by kind, repetitions of the SDK included; `cpu` seconds of the process."""

    requests: dict[str, int]
    swaps: tuple[Swap, ...]
    cpu: float


class Member(Daemon):
    """An agent among others in a process."""

    def _install_signals(self, meanings: Mapping[Signals, Wake]) -> None:
        """Signals are the main thread's."""

    def _give_memory_back(self, detail: object) -> None:
        """It collects the garbage of the whole process, and all would do it right after the instant."""

    def stop(self) -> None:
        self._put(Wake.STOP)


# --------------------------------------------------------------------------- what is measured


class _Link(PosixPath):
    """A link that tells when it was put in the place of `live`."""

    identity: str
    release: str
    swaps: list[Swap]

    def rename(self, target: str | PathLike[str]) -> Self:
        renamed = super().rename(target)
        at = time.time_ns()
        self.swaps.append(Swap(self.identity, self.release, at))
        return renamed


@contextmanager
def noting_swaps() -> Iterator[list[Swap]]:
    """Every swap in this process from now on."""
    swaps: list[Swap] = []
    arm = Webroot.arm

    def arm_timed(webroot: Webroot, release: str, *, previous: str | None) -> Armed:
        armed = arm(webroot, release, previous=previous)
        link = _Link(armed.link)
        link.identity, link.release, link.swaps = webroot.paths.root.name, release, swaps
        return replace(armed, link=link)

    Webroot.arm = arm_timed  # type: ignore[method-assign,assignment]  # put back below
    try:
        yield swaps
    finally:
        Webroot.arm = arm  # type: ignore[method-assign]


@contextmanager
def counting_requests() -> Iterator[Counter[str]]:
    """Every HTTP request that botocore sends in this process from now on, by kind."""
    counts: Counter[str] = Counter()
    adding = threading.Lock()
    send = URLLib3Session.send

    def send_counted(session: URLLib3Session, request: AWSRequest | AWSPreparedRequest) -> AWSResponse:
        with adding:
            counts[kind(str(request.method), str(request.url))] += 1
        return send(session, request)

    URLLib3Session.send = send_counted  # type: ignore[method-assign,assignment]  # put back below
    try:
        yield counts
    finally:
        URLLib3Session.send = send  # type: ignore[method-assign]


def kind(method: str, url: str) -> str:
    """`GET pointer`, `PUT heartbeat` and so on."""
    place = urlsplit(url)
    for end, what in (("/pointer.json", "pointer"), ("/manifest.json", "manifest"), (".pack", "pack")):
        if place.path.endswith(end):
            return f"{method} {what}"
    if "/fleet/" in place.path:
        return f"{method} heartbeat"
    return f"{method} listing" if "list-type" in place.query else f"{method} other"


# ------------------------------------------------------------------------------- the agents


def main() -> None:
    plan = msgspec.json.decode(sys.stdin.readline(), type=Plan)
    with (
        Path(plan.log).open("w") as log,
        noting_swaps() as swaps,
        counting_requests() as requests,
    ):
        logs.configure("json", log)
        members = _members(plan)
        threads = [threading.Thread(target=member.run, daemon=True) for member in members]
        for thread in threads:
            thread.start()
        for _ in sys.stdin:
            report = Report(dict(requests), tuple(swaps), time.process_time())
            print(msgspec.json.encode(report).decode(), flush=True)
        for member in members:
            member.stop()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _members(plan: Plan) -> list[Member]:
    found = [_settings(plan, identity) for identity in plan.identities]
    bucket = S3Bucket(found[0].site.bucket, patience=replace(PATIENT, connections=len(found)))
    return [_member(settings, bucket) for settings in found]


def _settings(plan: Plan, identity: str) -> Settings:
    return load(
        config=None,
        environ={},
        overrides={
            "site": plan.site,
            "source": "pointer",
            "identity": identity,
            "state_dir": f"{plan.folder}/{identity}",
            "poll_interval": plan.poll_interval,
            "drift": "off",  # the kernel gives a user 128 watchers
        },
    )


def _member(settings: Settings, bucket: S3Bucket) -> Member:
    return Member(
        settings=settings,
        load_settings=lambda: settings,
        config_files=list,
        open_bucket=lambda _: bucket,
        make_reporter=lambda now: LogAndStatusFile(now.run),
        clock=SystemClock(),
        notifier=Notifier({}),
        metadata=Metadata({"AWS_EC2_METADATA_DISABLED": "true"}),
    )


if __name__ == "__main__":
    main()
