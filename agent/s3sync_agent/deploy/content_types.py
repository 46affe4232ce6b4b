"""The Content-Type of a published file: the same on every machine. Pure.

Only who browses the bucket sees it; nginx decides by its own table.
"""

from __future__ import annotations

from mimetypes import MimeTypes

_DEFAULT = "application/octet-stream"

# What Python's own table leaves out, has only in newer versions, or names in an old way.
_MODERN = {
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".ico": "image/vnd.microsoft.icon",
    ".jxl": "image/jxl",
    ".js": "text/javascript",
    ".jsonld": "application/ld+json",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".opus": "audio/ogg",
    ".otf": "font/otf",
    ".ttf": "font/ttf",
    ".wasm": "application/wasm",
    ".webm": "video/webm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}

# A compressed file is served as what it is: there is no Content-Encoding to undo it.
_COMPRESSED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}

_types = MimeTypes()  # Python's own table, not that of the machine
for _suffix, _type in _MODERN.items():
    _types.add_type(_type, _suffix)


def content_type(path: str) -> str:
    """By the file's suffix; text is UTF-8, what is unknown is bytes."""
    # The name alone, with something before it: `guess_type` takes a URL and would read a scheme.
    name = "x/" + path.rpartition("/")[2]
    found, encoding = _types.guess_type(name)
    if encoding:
        return _COMPRESSED.get(encoding, _DEFAULT)
    if not found:
        return _DEFAULT
    return f"{found}; charset=utf-8" if found.startswith("text/") else found
