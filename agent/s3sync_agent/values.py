"""How values of settings are read: from a text or a TOML value to what the code works with.

Each function returns the value, or raises ValueError with a reason that names what was expected.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from s3sync_agent import layout
from s3sync_agent.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a loopback IP address, without brackets, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def text(value: object) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise ValueError("expected a text")


def site(value: object) -> layout.Site:
    try:
        return layout.parse_site(text(value))
    except ConfigError as error:
        raise ValueError(str(error)) from error


def path(value: object) -> Path:
    path = Path(text(value))
    return path if path.is_absolute() else Path.cwd() / path


# It names the key of the heartbeat: with the longest prefix of a site, still one that S3 takes.
LONGEST_IDENTITY = 200


def identity(value: object) -> str:
    given = text(value)
    if not given.isprintable() or "/" in given or len(given.encode()) > LONGEST_IDENTITY:
        raise ValueError(f"expected at most {LONGEST_IDENTITY} bytes of printable characters without a slash")
    return given


def loopback(value: object) -> Address:
    return _local(text(value), "metrics are for this machine, which may pass them on")


def _local(given: str, why: str) -> Address:
    host, _, port = given.rpartition(":")
    try:
        address, at = ipaddress.ip_address(host.removeprefix("[").removesuffix("]")), int(port)
    except ValueError as error:
        raise ValueError("expected an IP address, a colon and a port") from error
    if not address.is_loopback:
        raise ValueError(f"expected a loopback address: {why}")
    if not 1 <= at <= 65535:
        raise ValueError("expected a port, 1 to 65535")
    return Address(str(address), at)


def local_url(value: object) -> str:
    """`http://127.0.0.1:8080`, as it is written down everywhere; without a port it is 80."""
    given = text(value)
    if not given.startswith("http://"):
        raise ValueError("expected http://, a loopback address and a port")
    place = given.removeprefix("http://").removesuffix("/")
    if ":" not in place or place.endswith("]"):
        place += ":80"
    return f"http://{_local(place, 'the probe asks the nginx of this machine')}"


_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(?::[0-9]{1,5})?")


def host(value: object) -> str:
    given = text(value)
    if not _HOST.fullmatch(given):
        raise ValueError("expected a host name, without * and not in Unicode")
    return given


MOST_PATHS = 10
_LONGEST_PATH = 1000


def url_paths(value: object) -> tuple[str, ...]:
    """Paths of a URL: a list of texts, or one text with commas between them."""
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_PATHS:
        raise ValueError(f"expected 1 to {MOST_PATHS} paths")
    paths = tuple(map(text, given))
    for each in paths:
        if not each.startswith("/") or not each.isprintable() or len(each) > _LONGEST_PATH:
            raise ValueError("expected paths that begin with / and hold no control character")
    return paths


def textfile(value: object) -> Path:
    given = path(value)
    if given.suffix != ".prom":
        raise ValueError("expected a name that ends in .prom: node_exporter reads no other")
    return given


# What CloudWatch takes; its own metrics are in AWS/….
_NAMESPACE = re.compile(r"(?!AWS/)[A-Za-z0-9._/#-][A-Za-z0-9._/#:-]{0,254}")
LONGEST_GROUP = 1024


def namespace(value: object) -> str | None:
    """None for an empty one, which a template can give where there is nothing to be sent."""
    if value == "":
        return None
    given = text(value)
    if not _NAMESPACE.fullmatch(given):
        raise ValueError("expected at most 255 letters, digits and . - _ / # :, not beginning with AWS/")
    return given


def group(value: object) -> str:
    given = text(value)
    if len(given) > LONGEST_GROUP or not given.isascii() or not given.isprintable():
        raise ValueError(f"expected at most {LONGEST_GROUP} printable ASCII characters")
    return given


def seconds(low: float, high: float) -> Callable[[object], float]:
    def parse(value: object) -> float:
        given = number(value)
        if not low <= given <= high:
            raise ValueError(f"expected {low:g} to {high:g} seconds")
        return given

    return parse


def seconds_or_off(low: float, high: float) -> Callable[[object], float]:
    """0 is off."""

    def parse(value: object) -> float:
        given = number(value)
        if given and not low <= given <= high:
            raise ValueError(f"expected 0, or {low:g} to {high:g} seconds")
        return given

    return parse


def yes_or_no(value: object) -> bool:
    given = value.strip().lower() if isinstance(value, str) else value
    if given is True or given == "true":
        return True
    if given is False or given == "false":
        return False
    raise ValueError("expected true or false")


def count(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        given = number(value)
        if not low <= given <= high or not given.is_integer():
            raise ValueError(f"expected a whole number, {low} to {high}")
        return int(given)

    return parse


def number(value: object) -> float:
    try:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise ValueError("expected a number")


def one_of(*choices: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in choices:
            raise ValueError(f"expected {' or '.join(choices)}")
        return str(value)

    return parse
