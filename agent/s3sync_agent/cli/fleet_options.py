"""The options of every command that moves the pointer and watches what the fleet makes of it."""

from __future__ import annotations

import getpass
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import click

from s3sync_agent import clock
from s3sync_agent.bucket import Bucket
from s3sync_agent.layout import Site

if TYPE_CHECKING:  # commands import what they do when they do it: --help answers at once
    from s3sync_agent.deploy.promoter import Promoter, Show


class Duration(click.ParamType[float]):
    """`30s`, `5m`, `1h`, or seconds."""

    name = "duration"
    _UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}  # noqa: RUF012 - never written to

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smh]?)", str(value))
        if found is None:
            self.fail(f"{value!r} is no duration such as 30s, 5m or 1h", param, ctx)
        return float(found[1]) * self._UNITS[found[2]]


class Percent(click.ParamType[int]):
    """`10%` or `10`, from 1 to 100."""

    name = "percent"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d{1,3}) ?%?", str(value))
        if found is None or not 1 <= int(found[1]) <= 100:
            self.fail(f"{value!r} is no share such as 10%", param, ctx)
        return int(found[1])


class Shares(click.ParamType[tuple[int, ...]]):
    """`10,50,100`: shares in percent, each larger than the one before."""

    name = "shares"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        shares = tuple(Percent().convert(each.strip(), param, ctx) for each in str(value).split(","))
        if any(later <= earlier for earlier, later in pairwise(shares)):
            self.fail(f"{value!r} does not grow from step to step, as 10,50,100 does", param, ctx)
        return shares


reason = click.option("--reason", metavar="TEXT", default="", help="Why; shown in the history.")

_WAITING = (
    click.option(
        "--ignore",
        metavar="ID",
        multiple=True,
        help="An instance that is not waited for, by its identity or instance id; can be repeated.",
    ),
    click.option(
        "--asg",
        metavar="NAME",
        help="Wait for every member of this Auto Scaling group, and for nobody who left it.",
    ),
    click.option(
        "--timeout",
        type=Duration(),
        metavar="TIME",
        default="10m",
        show_default=True,
        help="How long the fleet may take to get ready.",
    ),
)


def waiting(command: Callable[..., None]) -> Callable[..., None]:
    """--ignore, --asg and --timeout."""
    for option in reversed(_WAITING):
        command = option(command)
    return command


def make_promoter(
    bucket: Bucket,
    site: Site,
    show: Show,
    *,
    reason: str = "",
    ignore: tuple[str, ...] = (),
    asg: str | None = None,
    timeout: float = 0.0,
    expect: int = 0,
    take_back: bool = True,
) -> Promoter:
    from s3sync_agent.deploy.promoter import Promoter, Terms  # noqa: PLC0415
    from s3sync_agent.gate import Gate  # noqa: PLC0415

    members = None
    if asg is not None:
        from s3sync_agent.deploy.asg import members_of  # noqa: PLC0415

        members = members_of(asg)
    return Promoter(
        bucket,
        site,
        by=_promoter(),
        reason=reason,
        clock=clock.SystemClock(),
        show=show,
        terms=Terms(Gate(frozenset(ignore), expect=expect), timeout, take_back),
        members=members,
    )


def _promoter() -> str:
    """Who is promoting: the GitHub actor, otherwise `user@host`."""
    actor = os.environ.get("GITHUB_ACTOR", "")
    if actor:
        return actor
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM interrupts like Ctrl-C: a CI job that is cancelled says where it stopped."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
