from __future__ import annotations

import pytest

from s3sync_agent.deploy.content_types import content_type


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("a/b.CSS", "text/css; charset=utf-8"),
        ("app.js", "text/javascript; charset=utf-8"),
        ("app.mjs", "text/javascript; charset=utf-8"),
        ("app.js.map", "application/json"),
        ("data.json", "application/json"),
        ("site.webmanifest", "application/manifest+json"),
        ("module.wasm", "application/wasm"),
        ("font.woff2", "font/woff2"),
        ("photo.avif", "image/avif"),
        ("logo.svg", "image/svg+xml"),
        ("feed.xml", "application/xml"),
        ("robots.txt", "text/plain; charset=utf-8"),
        ("page.html.gz", "application/gzip"),
        ("page.html.br", "application/octet-stream"),
        ("http:x.html", "text/html; charset=utf-8"),
        ("data:text/plain,x.html", "text/html; charset=utf-8"),
        ("v1.2/LICENSE", "application/octet-stream"),
        (".well-known/acme", "application/octet-stream"),
        ("x.unknown", "application/octet-stream"),
    ],
)
def test_the_type_follows_from_the_name_alone(path: str, expected: str) -> None:
    assert content_type(path) == expected
