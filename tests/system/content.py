"""The sites that fleets serve in tests: every page says which release it is of, every script whose it is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

STYLE = b"/* of every release */\nbody { color: #123 }\n" * 40
_OF_A_PAGE = re.compile(rb'<meta name="release" content="([^"]+)">')
_OF_AN_ASSET = re.compile(r"/assets/\w+\.([0-9a-f]{16})\.\w+\Z")
_IN_A_PAGE = re.compile(rb'(?:src|href)="(/assets/[^"]+)"')


@dataclass(frozen=True, slots=True)
class Content:
    """`files` by path. Pages name a script that is this release's alone, and a style that all have."""

    version: str
    files: Mapping[str, bytes]

    def write(self, folder: Path) -> Path:
        for path, body in self.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)
        return folder


def content(version: str, *, without: tuple[str, ...] = (), ballast: int = 0) -> Content:
    """A release without some of its files. `ballast` is so many bytes that no other release has and that do
    not compress."""
    script = f"/* {version} */ console.log('{version}');\n".encode() * 60
    assets = {_asset("app", "js", script): script, _asset("style", "css", STYLE): STYLE}
    files = {**assets, **{path: _page(version, path, assets) for path in ("index.html", "about/index.html")}}
    files["404.html"] = _page(version, "404.html", {})
    if ballast:
        files["ballast.bin"] = Random(version).randbytes(ballast)
    return Content(version, {path: body for path, body in files.items() if path not in without})


def _asset(name: str, suffix: str, body: bytes) -> str:
    return f"assets/{name}.{hashlib.sha256(body).hexdigest()[:16]}.{suffix}"


def _page(version: str, path: str, assets: Mapping[str, bytes]) -> bytes:
    """Long enough to come in several pieces, and of one release at both ends."""
    lines = "".join(f"<p>{path} of {version}, line {number}</p>\n" for number in range(200))
    named = "".join(
        f'<script src="/{each}"></script>\n'
        if each.endswith("js")
        else f'<link rel="stylesheet" href="/{each}">\n'
        for each in assets
    )
    head = f'<meta charset="utf-8">\n<meta name="release" content="{version}">\n'
    return f"<!doctype html>\n{head}{named}{lines}<p>{version}</p>\n".encode()


def release_of(page: bytes) -> str:
    """What a page says about itself; "" when it says nothing."""
    found = _OF_A_PAGE.search(page)
    return found[1].decode(errors="replace") if found else ""


def assets_of(page: bytes) -> list[str]:
    return [each.decode() for each in _IN_A_PAGE.findall(page)]


def belongs(path: str, body: bytes) -> bool:
    """Whether an asset has the bytes that its name was made of."""
    found = _OF_AN_ASSET.search(path)
    return found is not None and hashlib.sha256(body).hexdigest().startswith(found[1])
