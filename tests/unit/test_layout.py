from __future__ import annotations

from pathlib import Path

import pytest

from s3sync_agent.errors import ConfigError, UnsafePath
from s3sync_agent.layout import (
    MachinePaths,
    Site,
    StatePaths,
    check_path,
    check_version,
    escape,
    is_immutable,
    is_reserved,
    mtime_for,
    original_of,
    parse_site,
    release_id,
    sites_here,
)

SHA256 = "1a2b3c4d5e6f" + "0" * 52

# ------------------------------------------------------------------------------- keys


def test_every_key_of_the_contract_is_spelled_here() -> None:
    site = Site("bucket", "sites/www")
    assert site.pointer == "sites/www/current/.s3sync/pointer.json"
    assert site.complete_marker == "sites/www/current/.s3sync/complete"
    assert site.current == "sites/www/current/"
    assert site.manifest("v1") == "sites/www/releases/v1/.s3sync/manifest.json"
    assert site.pack("v1", SHA256) == f"sites/www/releases/v1/.s3sync/{SHA256}.pack"
    assert site.heartbeat("i-1") == "sites/www/fleet/i-1.json"


def test_a_site_without_a_prefix_begins_at_the_top_of_its_bucket() -> None:
    assert Site("bucket").current == "current/"
    assert Site("bucket").url == "s3://bucket"


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("s3://bucket", Site("bucket")),
        ("s3://bucket/", Site("bucket")),
        ("s3://bucket/a/b/", Site("bucket", "a/b")),
        ("s3://my.bucket-1/site", Site("my.bucket-1", "site")),
    ],
)
def test_sites_as_people_write_them(url: str, site: Site) -> None:
    assert parse_site(url) == site


@pytest.mark.parametrize(
    "url",
    [
        "",
        "bucket/site",
        "s3:/bucket",
        "s3://",
        "s3:///site",
        "http://bucket/site",
        "s3://B/site",
        "s3://a",
        "s3://bucket/../other",
        "s3://bucket/a//b",
        "s3://bucket/.s3sync",
        "s3://bucket/a\nb",
    ],
)
def test_what_is_no_site_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_site(url)
    assert str(refused.value).isprintable()


def test_the_state_directory_as_design_and_nginx_know_it() -> None:
    paths = StatePaths(Path("/var/lib/s3sync-agent"))
    assert str(paths.release("v1-1a2b3c4d5e6f")) == "/var/lib/s3sync-agent/releases/v1-1a2b3c4d5e6f"
    assert str(paths.manifest("v1-1a2b3c4d5e6f")) == "/var/lib/s3sync-agent/manifests/v1-1a2b3c4d5e6f.json"


# ------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("../x", "segment '..'"),
        ("a/./b", "segment '.'"),
        ("a//b", "segment ''"),
        ("a/", "segment ''"),
        ("..\\x", "backslash"),
        ("a\0b", "control character"),
        ("a\x1b[2Jb", "control character"),
        ("a\x85b", "control character"),
        ("caf\udce9", "UTF-8"),
        ("n" * 256, "longer than 255 bytes"),
        ("ü" * 128, "longer than 255 bytes"),
        ("/".join(["n" * 200] * 5), "the limit is 800"),
        ("/".join("d" * 65), "65 levels deep"),
        ("/".join("d" * 10_000), "the limit is 800"),
        (".s3sync", "reserved"),
        (".s3sync/manifest.json", "reserved"),
    ],
)
def test_an_unsafe_path_is_refused_with_its_reason(path: str, reason: str) -> None:
    with pytest.raises(UnsafePath, match=reason):
        check_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "index.html",
        ".well-known/security.txt",
        "a/.s3sync/x",
        ".s3sync2/x",
        "-rf",
        "ünï/çødé 漢字.png",
        "a b.html",
        "...",
        "..a/b..",
        "n" * 255,
        "/".join(["n" * 79] * 10),
        "/".join("d" * 64),
    ],
)
def test_unusual_paths_that_are_safe(path: str) -> None:
    assert check_path(path) == path


def test_our_own_files_may_be_named_where_that_is_meant() -> None:
    assert check_path(".s3sync/manifest.json", reserved_ok=True)
    assert is_reserved(".s3sync")
    assert not is_reserved(".s3sync-notes")


@pytest.mark.parametrize("version", ["20261122T181500Z-1a2b3c", "v1.2.3", "1", "A" * 128])
def test_versions(version: str) -> None:
    assert check_version(version) == version


@pytest.mark.parametrize("version", ["", ".hidden", "-rf", "a/b", "a b", "ä", "A" * 129, "v1\n", ".."])
def test_what_is_no_version(version: str) -> None:
    with pytest.raises(UnsafePath) as refused:
        check_version(version)
    assert str(refused.value).isprintable()


def test_a_release_on_disk_is_its_version_and_twelve_digits_of_its_manifest() -> None:
    assert release_id("v1", SHA256) == "v1-1a2b3c4d5e6f"


def test_an_mtime_is_the_same_on_every_instance() -> None:
    assert mtime_for(SHA256) == 1_000_000_000 + 0x1A2B3C4D % 600_000_000


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünï", "plain ünï"),
        ("a\nb", "a\\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\udce9", "\\udce9"),
        ("\u2028", "\\u2028"),
    ],
)
def test_what_could_forge_a_line_or_move_a_cursor_is_made_visible(text: str, shown: str) -> None:
    assert escape(text) == shown


# -------------------------------------------------------------------------- immutable


@pytest.mark.parametrize(
    "path",
    [
        # Vite and Rollup: eight characters of base64url
        "assets/index-BqD3kx9a.js",
        "assets/index-DkWqPzHa.css",
        "assets/index-D_x-3kQ9.js",
        "assets/logo-C8e2VgQx.svg",
        "static/vendor-4sCuR3Zx.min.js",
        # esbuild: eight characters of base32
        "dist/app-5KX3QJ2M.js",
        "main-5KX3QJ2M.js",
        "chunk-ABCDEF23.mjs",
        # webpack, Create React App, Parcel
        "main.8e0d62a03f.js",
        "static/js/main.073c9b0a.chunk.js",
        "static/media/logo.6ce24c58023cc2f8fd88fe9d219db6c6.svg",
        "index.8e0d62a0.css",
        "8e0d62a0.js",
        # Next
        "_next/static/chunks/main-app-3f2a9c1b5d6e7f80.js",
        "_next/static/css/5adebf9f62dc3001.css",
        "_next/static/kQ3xhT5bqZ2w1/_buildManifest.js",
        # SvelteKit, Astro, Nuxt
        "_app/immutable/chunks/DkWqPzHa.js",
        "_app/immutable/entry/start.BqD3kx9a.js",
        "_astro/page.BqD3kx9a.css",
        "_nuxt/entry.BqD3kx9a.js",
        # Hugo and Rails: SHA-256
        f"css/main.min.{SHA256}.css",
        f"assets/application-{SHA256}.js",
        f"assets/application-{SHA256}.js.map",
        # digits only, as one hash in fifty, in code
        "app-30718264.js",
        "app-153175113.js",
        "docs/assets/pic~1f2e3d4c.webp",
    ],
)
def test_a_fingerprinted_name_is_immutable(path: str) -> None:
    assert is_immutable(path)


@pytest.mark.parametrize(
    "path",
    [
        # pages and what robots read
        "index.html",
        "post-3f2a9c1b.html",
        "sitemap-3f2a9c1b.xml",
        "report-3f2a9c1b.pdf",
        "assets/notes-BqD3kx9a.txt",
        # no fingerprint
        "assets/app.js",
        "favicon.ico",
        "3f2a9c1b",
        "assets/README",
        ".well-known/3f2a9c1b",
        # dates and numbers
        "photo-20240131.jpg",
        "assets/app-20240131.js",
        "assets/app.20240131.css",
        "static/IMG-20240131-120000.jpg",
        "invoice-12345678.png",
        # versions
        "jquery-3.7.1.min.js",
        "static/bootstrap-5.3.3.css",
        "assets/chart-v10.2.0.js",
        # words, also those that are spelled in hexadecimal
        "assets/deadbeef.js",
        "fonts/cafe-facade.woff2",
        "img/effaced-decade.png",
        "assets/photo-original.jpg",
        "assets/Roboto-Regular.woff2",
        "assets/hero-image-2x.png",
        "assets/banner-photo-v2.jpg",
        "dist/app-v1-final.css",
        "static/site-manifest.json",
        # a bundler's token outside a bundler's folder says nothing
        "img/photo-BqD3kx9a.jpg",
        # other folders of the same frameworks
        "_app/version.json",
        "my_next/static.js",
        "_next/data/build/index.json",
    ],
)
def test_another_name_is_not(path: str) -> None:
    assert not is_immutable(path)


@pytest.mark.parametrize("suffix", [".gz", ".br", ".zst"])
def test_a_compressed_copy_is_what_its_original_is(suffix: str) -> None:
    assert is_immutable(f"assets/index-BqD3kx9a.js{suffix}")
    assert is_immutable(f"8e0d62a0.js{suffix}")
    assert not is_immutable(f"post-3f2a9c1b.html{suffix}")
    assert not is_immutable(f"assets/app.js{suffix}")
    assert not is_immutable(f"assets/index-BqD3kx9a.js{suffix}", never=["*.js"])
    assert not is_immutable(f"assets/index-BqD3kx9a.js{suffix}", never=[f"*{suffix}"])
    assert is_immutable(f"logo.svg{suffix}", extra=["*.svg"])


@pytest.mark.parametrize(
    ("path", "original"),
    [
        ("a/app.js.gz", "a/app.js"),
        ("a.tar.br", "a.tar"),
        ("a.zst", "a"),
        ("a.js.gz.gz", "a.js.gz"),
        ("a.js", None),
        ("a/.gz", None),
        (".gz", None),
        ("gz", None),
        ("a.GZ", None),
    ],
)
def test_the_name_of_a_compressed_copy_is_its_originals_and_a_suffix(path: str, original: str | None) -> None:
    assert original_of(path) == original


def test_globs_decide_before_the_rule() -> None:
    assert is_immutable("fonts/body.woff2", extra=["fonts/*"])
    assert not is_immutable("assets/index-BqD3kx9a.js", never=["assets/*"])
    assert not is_immutable("fonts/body.woff2", extra=["fonts/*"], never=["*.woff2"])


@pytest.mark.parametrize(
    "url", ["s3://bucket/site/current/", "s3://bucket/current", "s3://bucket/a/releases"]
)
def test_a_folder_of_a_site_is_no_site(url: str) -> None:
    with pytest.raises(ConfigError, match="folder of a site"):
        parse_site(url)


# ------------------------------------------------------------------------ on a machine


def test_a_site_with_a_name_has_other_places_than_one_without() -> None:
    one, blog = vars(MachinePaths()), vars(MachinePaths("blog"))
    assert {key for key in one if one[key] == blog[key]} == set()
    assert one["services"] == one["service"] == "s3sync-agent.service"
    assert blog == {
        "name": "blog",
        "config": Path("/etc/s3sync-agent/blog/config.toml"),
        "fragments": Path("/etc/s3sync-agent/blog/config.d"),
        "by_setup": Path("/etc/s3sync-agent/blog/config.d/00-setup.toml"),
        "user_data": Path("/etc/s3sync-agent/blog/config.d/50-user-data.toml"),
        "environment": Path("/etc/s3sync-agent/blog/environment"),
        "state_dir": Path("/var/lib/s3sync-agent-blog"),
        "run_dir": Path("/run/s3sync-agent-blog"),
        "service": "s3sync-agent@blog.service",
        "unit": Path("/etc/systemd/system/s3sync-agent@.service"),
        "services": "s3sync-agent@*.service",
        "nginx": Path("/etc/nginx/conf.d/s3sync-blog.conf"),
        "access_log": Path("/var/log/nginx/s3sync-blog.log"),
    }


@pytest.mark.parametrize("name", ["a", "0", "blog", "blog-2", "a--b", "x" * 32])
def test_a_short_plain_word_can_be_the_name_of_a_site_on_a_machine(name: str) -> None:
    assert MachinePaths(name).name == name
    assert sites_here([f"s3sync-agent-{name}"]) == sites_here([f"s3sync-{name}.conf"]) == {name}


@pytest.mark.parametrize(
    "name",
    [
        "-a", "a-", "A", "a_b", "a.b", "config.d", "hooks.d", "config.toml", "..", "a/b", "a b", "a\n", "ö",
        "%i", "x" * 33, "environment",
    ],
)  # fmt: skip
def test_what_would_not_be_one_plain_word_everywhere_cannot(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a site here"):
        MachinePaths(name)


def test_the_sites_of_a_machine_are_told_by_their_state_directories_and_by_their_nginx_files() -> None:
    directories = ["s3sync-agent", "s3sync-agent-blog", "s3sync-agents", "s3sync-agent-", "s3sync", "nginx"]
    assert sites_here(directories) == {"", "blog"}
    files = ["s3sync.conf", "s3sync-blog.conf", "s3sync-.conf", "s3syncs.conf", "s3sync-blog.conf.rpmsave"]
    assert sites_here(files) == {"", "blog"}
    assert sites_here(["s3sync-agents.conf", "default.conf"]) == {"agents"}
