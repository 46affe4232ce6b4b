"""`app.js.gz` beside `app.js`: who gets which, asked of the distribution's nginx over HTTP.

The nginx of the `demo` extra was built without the module.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3sync_agent.layout import mtime_for
from s3sync_agent.release import digest
from tests.integration.conftest import LiveSite
from tests.integration.served import IMMUTABLE, NONE, ONE, TWO, Instance, serving
from tests.integration.sites import promote_here, publish_here, run_once
from tests.nginx_process import Answer, has_gzip_static, nginx_serving, system_binary

SCRIPT = "assets/app-3f9a1c2b.js"
CODE = b"app()\n" * 1000
ACCEPTED = {"Accept-Encoding": "gzip"}
# What nginx itself would never make of it.
PACKED = gzip.compress(CODE, compresslevel=1, mtime=1)


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=1)


@pytest.fixture
def binary() -> Path:
    found = system_binary()
    if found is None:
        pytest.skip("this machine's distribution has no nginx installed")
    assert has_gzip_static(found), "every supported distribution's can"
    return found


@pytest.fixture
def instance(tmp_path: Path, binary: Path) -> Iterator[Instance]:
    with serving(tmp_path, binary) as instance:
        yield instance


def as_visitor(instance: Instance, path: str) -> Answer:
    return instance.get(path, headers=ACCEPTED)


def etag(content: bytes) -> str:
    return f'"{mtime_for(digest(content)):x}-{len(content):x}"'


@pytest.mark.parametrize("path", [SCRIPT, "plain/app.js"], ids=["from assets", "from live"])
def test_the_copy_is_sent_to_those_who_accept_it_and_the_original_to_others(
    instance: Instance, path: str
) -> None:
    files = {path: CODE, f"{path}.gz": PACKED}
    instance.add(ONE, {"index.html": b"one"})
    instance.add(ONE, *((NONE, files) if path == SCRIPT else (files, NONE)))
    instance.swap(ONE)
    copy, original = as_visitor(instance, f"/{path}"), instance.get(f"/{path}")
    assert (copy.status, copy.body, copy.headers["content-encoding"]) == (200, PACKED, "gzip")
    assert (original.status, original.body, original.headers.get("content-encoding")) == (200, CODE, None)
    for answer, content in ((copy, PACKED), (original, CODE)):
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["etag"] == etag(content), "the same on every instance"
        assert answer.headers["cache-control"] == (IMMUTABLE if path == SCRIPT else "no-cache")
        assert "last-modified" not in answer.headers


def test_a_visitor_who_has_the_copy_is_told_so(instance: Instance) -> None:
    instance.add(ONE, {"index.html": CODE, "index.html.gz": PACKED})
    instance.swap(ONE)
    again = {**ACCEPTED, "If-None-Match": etag(PACKED)}
    assert instance.get("/", headers=again).status == 304
    assert instance.get("/", headers={"If-None-Match": etag(PACKED)}).body == CODE


def test_folders_and_the_404_page_are_sent_as_copies_too(instance: Instance) -> None:
    pages = {"index.html": b"one", "about/index.html": b"about", "404.html": b"nothing here"}
    instance.add(ONE, pages | {f"{path}.gz": packed(content) for path, content in pages.items()})
    instance.swap(ONE)
    for path, status, body in (("/about/", 200, b"about"), ("/nothing", 404, b"nothing here")):
        answer = as_visitor(instance, path)
        assert (answer.status, answer.body) == (status, packed(body))
        assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_where_only_the_original_is_in_assets_it_is_compressed_on_the_fly(instance: Instance) -> None:
    """The copy was compressed anew, so it is in each release and not in `assets`."""
    instance.add(ONE, {"index.html": b"one", f"{SCRIPT}.gz": b"never sent"}, {SCRIPT: CODE})
    instance.swap(ONE)
    answer = as_visitor(instance, f"/{SCRIPT}")
    assert (gzip.decompress(answer.body), answer.headers["cache-control"]) == (CODE, IMMUTABLE)


def test_where_only_the_copy_is_in_assets_all_comes_from_live(instance: Instance) -> None:
    """The original is not the same in every release."""
    instance.add(ONE, {"index.html": b"one"}, {SCRIPT: b"old", f"{SCRIPT}.gz": packed(b"old")})
    (instance.state.assets / SCRIPT).unlink()
    instance.add(TWO, {"index.html": b"two", SCRIPT: CODE})
    instance.swap(TWO)
    answer = as_visitor(instance, f"/{SCRIPT}")
    assert (gzip.decompress(answer.body), answer.headers["cache-control"]) == (CODE, "no-cache")


def test_after_a_swap_no_copy_of_the_former_release_stands_for_a_page_of_the_new_one(
    instance: Instance,
) -> None:
    instance.add(ONE, {"index.html": b"one", "index.html.gz": packed(b"one")})
    instance.add(TWO, {"index.html": b"two"})
    seen = []
    for release in (ONE, TWO, ONE, TWO):
        instance.swap(release)
        seen.append((as_visitor(instance, "/").body, instance.get("/").body))
    assert seen == [(packed(b"one"), b"one"), (b"two", b"two")] * 2


def test_a_copy_can_be_asked_for_by_its_own_name(instance: Instance) -> None:
    instance.add(ONE, {"index.html": b"one"}, {SCRIPT: CODE, f"{SCRIPT}.gz": PACKED})
    instance.swap(ONE)
    answer = as_visitor(instance, f"/{SCRIPT}.gz")
    assert (answer.body, answer.headers["content-type"]) == (PACKED, "application/gzip")
    assert "content-encoding" not in answer.headers


def test_a_copy_that_was_compressed_anew_is_published_and_never_mixed(
    site: LiveSite, binary: Path, tmp_path: Path
) -> None:
    """The whole way: published, staged by the agent, served."""
    (tmp_path / "nginx").mkdir()
    for version in (1, 2):
        site.write({"index.html": f"page {version}", SCRIPT: CODE.decode()})
        (site.folder / f"{SCRIPT}.gz").write_bytes(gzip.compress(CODE, mtime=version))
        publish_here(site, f"v{version}")
        promote_here(site, f"v{version}")
        assert run_once(site).returncode == 0
        with nginx_serving(site.state, site.state / "run", tmp_path / "nginx", binary=binary) as nginx:
            answer = nginx.get(f"/{SCRIPT}", headers=ACCEPTED)
            assert nginx.get("/").body == f"page {version}".encode()
        assert gzip.decompress(answer.body) == CODE
        assert answer.headers["cache-control"] == IMMUTABLE
        assert (answer.body == gzip.compress(CODE, mtime=1)) == (version == 1), "then on the fly"
