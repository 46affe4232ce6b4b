"""Generated sites: the kinds and sizes of files that static sites have, the same for every machine.

Per 10,000 files: about 145 MB, 60 % of the bytes images and fonts that cannot be compressed further.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SEED = 20261122
_CORPUS_BYTES = 4_000_000
_SPREAD = 0.9  # of the logarithm: most files are small, a few are forty times the median
_SECTION = 200  # pages in one folder


@dataclass(frozen=True, slots=True)
class Kind:
    """`share` of all files, in per cent; `median` size in bytes."""

    suffix: str
    folder: str
    share: int
    median: int
    text: bool
    fingerprinted: bool = False


KINDS = (
    Kind("html", "docs", 40, 7_500, text=True),
    Kind("webp", "img", 22, 16_000, text=False),
    Kind("svg", "icons", 11, 1_600, text=True),
    Kind("js", "assets", 10, 10_500, text=True, fingerprinted=True),
    Kind("json", "data", 8, 3_000, text=True),
    Kind("css", "assets", 4, 8_000, text=True, fingerprinted=True),
    Kind("png", "img", 4, 22_000, text=False),
    Kind("woff2", "assets", 1, 32_000, text=False, fingerprinted=True),
)


def write_site(folder: Path, files: int) -> int:
    """Write a site of `files` files into the empty `folder`; returns its bytes."""
    chance = random.Random(SEED)
    corpus = _corpus(chance)
    pages = files * KINDS[0].share // 100
    total = _write(folder / "index.html", _page(corpus, chance, 7_500, pages))
    for number, kind in enumerate(_kinds(files - 1)):
        size = max(200, int(kind.median * chance.lognormvariate(0, _SPREAD)))
        if kind.suffix == "html":
            data = _page(corpus, chance, size, pages)
            path = _page_path(number)
        else:
            data = _text(corpus, chance, size) if kind.text else chance.randbytes(size)
            stamp = f"-{hashlib.sha256(data).hexdigest()[:10]}" if kind.fingerprinted else ""
            path = f"{kind.folder}/{kind.suffix}{number:06}{stamp}.{kind.suffix}"
        total += _write(folder / path, data)
    return total


def change_pages(folder: Path, count: int, turn: int) -> None:
    """Write `count` of the pages anew, other ones or other bytes at every `turn`."""
    chance = random.Random(SEED + turn)
    corpus = _corpus(chance)
    pages = sorted(folder.glob("docs/*/*.html"))
    for path in chance.sample(pages, count):
        path.write_bytes(_page(corpus, chance, path.stat().st_size, len(pages)))


def _kinds(files: int) -> Iterator[Kind]:
    """Every kind in its share; pages first, so that their numbers are known."""
    left = files
    for kind in KINDS[:-1]:
        count = files * kind.share // 100
        left -= count
        yield from [kind] * count
    yield from [KINDS[-1]] * left


def _write(path: Path, data: bytes) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.write_bytes(data)


def _page_path(number: int) -> str:
    return f"docs/section-{number // _SECTION:03}/page-{number:06}.html"


def _page(corpus: bytes, chance: random.Random, size: int, pages: int) -> bytes:
    """HTML with links to other pages that exist."""
    links = "".join(
        f'<li><a href="/{_page_path(chance.randrange(pages - 1))}">Read on</a></li>\n' for _ in range(5)
    )
    head = f"<!doctype html>\n<html><head><title>A page</title></head>\n<body>\n<ul>\n{links}</ul>\n<p>\n"
    return head.encode() + _text(corpus, chance, size) + b"\n</p>\n</body></html>\n"


def _text(corpus: bytes, chance: random.Random, size: int) -> bytes:
    """A stretch of the corpus, which is longer than any file."""
    start = chance.randrange(len(corpus) - size)
    return corpus[start : start + size]


def _corpus(chance: random.Random) -> bytes:
    """Text that Zstandard makes about three times smaller, as it does with pages and scripts."""
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    weights = range(len(letters), 0, -1)
    words = ["".join(chance.choices(letters, weights, k=chance.randint(2, 11))) for _ in range(4_000)]
    frequency = [1 / (rank + 3) for rank in range(len(words))]
    text = " ".join(chance.choices(words, frequency, k=_CORPUS_BYTES // 7))
    return text.encode()
