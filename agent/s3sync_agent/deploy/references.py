"""Finds the URLs that a page or a style sheet refers to, with their lines. Pure.

The regular expressions accept whatever is opened and never closed up to the end of the input, as
browsers do. So every attempt consumes what it looked at, and a pass is linear in its input, whatever
that is. (`html.parser` is neither linear nor fast: 10,000 pages of 14 kB took it 50 s.)
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reference:
    """A URL as it is written, and the line it is written in, or its tag begins in."""

    url: str
    line: int


@dataclass(frozen=True, slots=True)
class References:
    """What a file refers to. `base` is the first `<base href>` of a page, or None."""

    found: tuple[Reference, ...]
    base: str | None


# ------------------------------------------------------------------------------- pages

_TAG = re.compile(
    r"""
      <!--.*?(?:-->|\Z)
    | <(?P<name>[a-z][^\s/>]*+)
      (?P<attributes>(?:
          [^>=]++
        | =\s*+(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z)|[^\s>"'][^\s>]*+)?+
      )*+)
      (?:(?P<end>>)|\Z)
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_ATTRIBUTE = re.compile(
    r"""([^\s"'>/=]++)\s*+=\s*+(?:"(?P<double>[^"]*+)"|'(?P<single>[^']*+)'|(?P<bare>[^\s>]++))"""
)
_MAY_REFER = re.compile(r"href|src|poster|data|style|url", re.IGNORECASE)
_RAW_TEXT = {
    name: re.compile(f"</{name}", re.IGNORECASE) for name in ("script", "style", "textarea", "title")
}
_REFRESH = re.compile(r"\s*+[\d.]*+\s*+[;,]?+\s*+url\s*+=\s*+[\"']?+([^\"']++)", re.IGNORECASE)


def in_html(text: str) -> References:
    """The references of a page, those in its `style` elements and attributes included."""
    found: list[Reference] = []
    base: str | None = None
    at, line = 0, 1
    while tag := _TAG.search(text, at):
        line += text.count("\n", at, tag.start())
        start, at = tag.start(), tag.end()
        name = (tag["name"] or "").lower()
        if tag["end"] and _MAY_REFER.search(tag["attributes"]):
            attributes = _attributes(tag["attributes"])
            if name == "base":
                base = attributes.get("href") if base is None else base
            else:
                found.extend(_in_tag(name, attributes, line))
        line += text.count("\n", start, at)
        if name in _RAW_TEXT:
            closing = _RAW_TEXT[name].search(text, at)
            end = closing.start() if closing else len(text)
            if name == "style":
                found.extend(in_css(text[at:end], line=line))
            line += text.count("\n", at, end)
            at = end
    return References(tuple(found), base)


def _attributes(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(text):
        value = match["double"] or match["single"] or match["bare"] or ""
        found.setdefault(match[1].lower(), html.unescape(value))  # the first one counts
    return found


def _in_tag(tag: str, attributes: dict[str, str], line: int) -> Iterator[Reference]:
    for name, value in attributes.items():
        if name in ("href", "src", "poster", "xlink:href") or (name == "data" and tag == "object"):
            yield Reference(value, line)
        elif name in ("srcset", "imagesrcset"):
            yield from (Reference(url, line) for url in in_srcset(value))
        elif name == "style":
            yield from in_css(value, line=line)
    if tag == "meta" and attributes.get("http-equiv", "").lower() == "refresh":
        refresh = _REFRESH.match(attributes.get("content", ""))
        if refresh:
            yield Reference(refresh[1], line)


_SRCSET_URL = re.compile(r"[\s,]*+(\S++)")


def in_srcset(value: str) -> Iterator[str]:
    """The URLs of a `srcset`, by the HTML standard: `a.png 1x, b.png 2x`. A comma belongs to the
    URL unless it ends it."""
    at = 0
    while match := _SRCSET_URL.match(value, at):
        url, at = match[1], match.end()
        if url.endswith(","):
            url = url.rstrip(",")
        else:
            comma = value.find(",", at)
            at = len(value) if comma == -1 else comma + 1
        yield url


# ----------------------------------------------------------------------- style sheets

_CSS = re.compile(
    r"""
      /\*.*?(?:\*/|\Z)
    | @import\s*+(?:"(?P<import_double>[^"\n]*+)"|'(?P<import_single>[^'\n]*+)')
    | url\(\s*+(?:"(?P<double>[^"\n]*+)"|'(?P<single>[^'\n]*+)'|(?P<bare>[^()"'\s]*+))\s*+\)
    | "(?:[^"\\\n]|\\.)*+(?:"|(?=\n)|\\?\Z)
    | '(?:[^'\\\n]|\\.)*+(?:'|(?=\n)|\\?\Z)
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def in_css(text: str, *, line: int = 1) -> Iterator[Reference]:
    """The references of a style sheet whose first line is `line`."""
    at = 0
    for match in _CSS.finditer(text):
        url = match[match.lastgroup] if match.lastgroup else ""
        if url and "\\" not in url:  # CSS escapes in URLs are too rare to be worth decoding
            line += text.count("\n", at, match.start())
            at = match.start()
            yield Reference(url, line)
