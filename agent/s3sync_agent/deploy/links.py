"""Finds local links in pages and style sheets that lead nowhere, as nginx would answer them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from s3sync_agent import layout
from s3sync_agent.deploy.findings import Finding
from s3sync_agent.deploy.references import Reference, References, in_css, in_html

MAX_PAGE_BYTES = 32 * 1024 * 1024

_PAGES = (".html", ".htm", ".xhtml")
_SHEETS = (".css",)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//")
_LEFT_OUT_BY_BROWSERS = str.maketrans("", "", "\t\r\n")


class Site:
    """The paths that are served, and what a request for any other path gets."""

    def __init__(self, files: Iterable[str]) -> None:
        self._files = frozenset(files)
        self._folders = {folder for path in self._files for folder in layout.parents(path)} | {""}
        self._alike = {folded(path): path for path in sorted(self._files, reverse=True)}

    def fault(self, path: str) -> str:
        """Why a request for `path` (decoded, no leading slash) finds nothing; "" when it does.

        `dir/` is answered by `dir/index.html`, `dir` by a redirect to `dir/`.
        """
        folder = path.removesuffix("/")
        page = f"{folder}/{layout.INDEX}".lstrip("/")
        if path in self._files or (folder in self._folders and page in self._files):
            return ""
        if folder in self._folders:
            return f"the folder has no {layout.INDEX}"
        alike = self._alike.get(folded(path))
        if alike:
            return f"{layout.escape(alike)!r} is spelt differently"
        return "there is no such file"


def folded(path: str) -> str:
    """Equal for names that only differ by case or by Unicode normal form."""
    return unicodedata.normalize("NFC", path).casefold()


def check_links(root: Path, files: Sequence[str]) -> Iterator[Finding]:
    """Warnings about the links in the pages and style sheets among `files`, which lie below `root`.
    A link that a file repeats is reported once, at its first line."""
    site = Site(files)
    for path in files:
        suffix = path[path.rfind(".") :].lower()
        if suffix in _PAGES or suffix in _SHEETS:
            yield from _check_file(site, root, path, is_page=suffix in _PAGES)


def _check_file(site: Site, root: Path, path: str, *, is_page: bool) -> Iterator[Finding]:
    shown = layout.escape(path)
    try:
        with (root / path).open("rb") as file:
            raw = file.read(MAX_PAGE_BYTES + 1)
    except OSError as error:
        yield Finding("error", shown, None, "unreadable", f"it cannot be read: {error.strerror}")
        return
    if len(raw) > MAX_PAGE_BYTES:
        limit = MAX_PAGE_BYTES // 1024**2
        yield Finding("warning", shown, None, "not-checked", f"links not checked: larger than {limit} MiB")
        return
    text = raw.decode("utf-8-sig", "replace")
    references = in_html(text) if is_page else References(tuple(in_css(text)), None)
    yield from _check_references(site, path, references)


def _check_references(site: Site, path: str, references: References) -> Iterator[Finding]:
    base = path
    if references.base is not None:
        target = resolve(path, references.base)
        if target is None:
            return  # every link of this page leads to another site
        base = target
    seen: set[str] = set()
    for reference in references.found:
        if reference.url not in seen:
            seen.add(reference.url)
            yield from _check_reference(site, path, base, reference)


def _check_reference(site: Site, path: str, base: str, reference: Reference) -> Iterator[Finding]:
    target = resolve(base, reference.url)
    if target is None:
        return
    fault = site.fault(target)
    if fault:
        url = reference.url if len(reference.url) <= 200 else reference.url[:197] + "..."
        message = f"link to {layout.escape(url)!r} leads nowhere: {fault}"
        yield Finding("warning", layout.escape(path), reference.line, "broken-link", message)


def resolve(base: str, url: str) -> str | None:
    """The path, without leading slash, that a browser on page `base` asks for when it follows
    `url`; a trailing slash is kept. None for links to elsewhere and within the page."""
    url = url.strip().translate(_LEFT_OUT_BY_BROWSERS)
    if _SCHEME.match(url):
        return None
    wanted = re.split(r"[?#]", url, maxsplit=1)[0]
    if not wanted:
        return base if url.startswith("?") else None
    wanted = unquote(wanted)
    if not wanted.startswith("/"):
        wanted = base[: base.rfind("/") + 1] + wanted
    return _without_dots(wanted)


def _without_dots(path: str) -> str:
    """Without `.`, `..` and empty segments; `..` at the top stays there, as in browsers."""
    segments = path.split("/")
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    is_folder = segments[-1] in ("", ".", "..") and kept
    return "/".join(kept) + ("/" if is_folder else "")
