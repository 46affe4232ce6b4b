"""From a folder to a served tree by the real commands: byte for byte, with no request too many, and
with nothing served that should not be."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from s3sync_agent.layout import Site, parse_site
from s3sync_agent.pointer import encode_pointer, parse_pointer
from s3sync_agent.release import digest, encode_manifest, parse_manifest
from tests.counting import counted
from tests.integration.conftest import LiveSite
from tests.integration.sites import (
    asking,
    new_site,
    promote_here,
    publish_here,
    run_once,
    serve_here,
    signed_by,
)
from tests.servers import READER, S3Server, free_ports

PAGES = {
    "index.html": "<h1>one</h1>\n" * 100,
    "about/index.html": "<h1>about</h1>",
    "assets/app-3f2a9c1b.js": "one()\n" * 50_000,
    "assets/copy of app.js": "one()\n" * 50_000,
    "empty.txt": "",
    ".well-known/security.txt": "Contact: mailto:security@example.com\n",
    "naïve + 100% & co/日本語 'quoted'.html": "<h1>names</h1>",
    "deep/" * 20 + "page.html": "<h1>deep</h1>",
}
OTHER = {"index.html": "<h1>two</h1>\n" * 100, "assets/app-4f2a9c1b.js": "two()\n" * 50_000}


@pytest.fixture(params=["moto_server", "seaweedfs"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def site(server: S3Server, tmp_path: Path) -> LiveSite:
    return new_site(server, tmp_path)


def differences(folder: Path, site: LiveSite) -> str:
    """What `diff -r` finds between a folder and what is served."""
    done = subprocess.run(
        ["diff", "-r", folder, site.state / "live/"], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


# ---------------------------------------------------------------------------------- the way


def test_what_is_promoted_is_served_byte_for_byte_and_the_next_run_asks_once(
    site: LiveSite, server: S3Server
) -> None:
    site.write(PAGES)
    version = site.s3sync("publish", str(site.folder), "--site", site.url)
    site.s3sync("promote", version, "--now", "--site", site.url)
    with counted(server.endpoint) as counter:
        instance = asking(site, counter.endpoint)
        first = run_once(instance)
        assert (first.returncode, first.stderr) == (0, "")
        assert differences(site.folder, site) == ""
        assert len(counter.asked) == 3, "pointer, manifest, pack"
        counter.forget()
        second = run_once(instance)
        assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
        assert [str(asked) for asked in counter.asked] == [f"GET {_path(site, parse_site(site.url).pointer)}"]


def _path(site: LiveSite, key: str) -> str:
    return f"/{parse_site(site.url).bucket}/{key}"


def test_a_rollback_is_served_one_run_later_without_a_byte_of_a_pack(
    site: LiveSite, server: S3Server, tmp_path: Path
) -> None:
    former = replace(site, folder=tmp_path / "former")
    former.write(PAGES)
    site.write(PAGES | OTHER)
    publish_here(former, "v1")
    promote_here(site, "v1")
    serve_here(site)
    publish_here(site, "v2")
    promote_here(site, "v2")
    with counted(server.endpoint) as counter:
        instance = asking(site, counter.endpoint)
        assert run_once(instance).returncode == 0
        assert differences(site.folder, site) == ""
        assert len(counter.pack_requests()) == 1, "the counter sees what an update downloads"
        site.s3sync("rollback", "--no-mirror", "--site", site.url)
        counter.forget()
        assert run_once(instance).returncode == 0
        assert differences(former.folder, site) == ""
        assert counter.pack_requests() == []
        assert len(counter.asked) == 1, "the pointer"


# ------------------------------------------------------------------- what must never be served

Harm = Callable[[S3Server, Site], None]


def escaping_manifest(server: S3Server, where: Site) -> None:
    """A manifest that leads out of the tree, and a pointer that vouches for it."""
    manifest = parse_manifest(_read(server, where, where.manifest("v2")))
    first = msgspec.structs.replace(manifest.files[0], path="../../etc/x")
    raw = encode_manifest(msgspec.structs.replace(manifest, files=(first, *manifest.files[1:])))
    _write(server, where, where.manifest("v2"), raw)
    pointer = parse_pointer(_read(server, where, where.pointer)).pointer
    active = msgspec.structs.replace(pointer.active, manifest_sha256=digest(raw), manifest_size=len(raw))
    changed = msgspec.structs.replace(pointer, active=active, sequence=pointer.sequence + 1)
    _write(server, where, where.pointer, encode_pointer(changed))


def flipped_byte(server: S3Server, where: Site) -> None:
    """One bit of the newest pack is another, in the middle of its first frame."""
    manifest = parse_manifest(_read(server, where, where.manifest("v2")))
    assert manifest.pack is not None
    key = where.pack("v2", manifest.pack.sha256)
    pack = bytearray(_read(server, where, key))
    pack[min(entry.length for entry in manifest.files if entry.length) // 2] ^= 1
    _write(server, where, key, bytes(pack))


def shortened_pack(server: S3Server, where: Site) -> None:
    manifest = parse_manifest(_read(server, where, where.manifest("v2")))
    assert manifest.pack is not None
    key = where.pack("v2", manifest.pack.sha256)
    _write(server, where, key, _read(server, where, key)[:-1])


def garbage(server: S3Server, where: Site) -> None:
    _write(server, where, where.pointer, b'{"signed":\x00\xff\x1b[2J garbage')


def _read(server: S3Server, where: Site, key: str) -> bytes:
    return server.admin.get_object(Bucket=where.bucket, Key=key)["Body"].read()


def _write(server: S3Server, where: Site, key: str, body: bytes) -> None:
    server.admin.put_object(Bucket=where.bucket, Key=key, Body=body)


HARMS = [
    pytest.param(escaping_manifest, "unsafe path '../../etc/x'", id="manifest"),
    pytest.param(flipped_byte, "content of ", id="flipped byte"),
    pytest.param(shortened_pack, "the object ends before byte", id="shortened pack"),
    pytest.param(garbage, "pointer cannot be read", id="pointer"),
]


@pytest.mark.parametrize(("harm", "reason"), HARMS)
def test_a_first_run_of_something_broken_serves_nothing_and_says_why(
    site: LiveSite, server: S3Server, tmp_path: Path, harm: Harm, reason: str
) -> None:
    site.write(OTHER)
    publish_here(site, "v2")
    promote_here(site, "v2")
    harm(server, parse_site(site.url))
    done = run_once(site)
    assert_refused(done, reason)
    assert not (site.state / "live").exists()
    assert_nothing_left(site)
    assert not (tmp_path / "etc").exists()


@pytest.mark.parametrize(("harm", "reason"), HARMS)
def test_something_broken_leaves_live_as_it_is_and_says_why(
    site: LiveSite, server: S3Server, tmp_path: Path, harm: Harm, reason: str
) -> None:
    former = replace(site, folder=tmp_path / "former")
    former.write(PAGES)
    publish_here(former, "v1")
    promote_here(site, "v1")
    serve_here(site)
    site.write(OTHER | {f"pages/{n}.html": f"<h1>{n}</h1>" for n in range(9)})
    publish_here(site, "v2")
    promote_here(site, "v2")
    harm(server, parse_site(site.url))
    before = (site.state / "live").readlink()
    assert_refused(run_once(site), reason)
    assert (site.state / "live").readlink() == before
    assert differences(former.folder, site) == ""
    assert_nothing_left(site)


def assert_refused(done: subprocess.CompletedProcess[str], reason: str) -> None:
    assert done.returncode == 4, done.stderr
    error, *hints = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert reason in error
    assert all(line.startswith("hint: ") for line in hints)
    assert "".join(done.stderr.splitlines()).isprintable(), "nothing that could move a cursor"


def assert_nothing_left(site: LiveSite) -> None:
    assert list((site.state / "staging").iterdir()) == []
    live = (site.state / "live").resolve().name if (site.state / "live").exists() else None
    assert {tree.name for tree in (site.state / "releases").iterdir()} <= {live}


# ------------------------------------------------------------------------- could not ask


def assert_could_not_ask(done: subprocess.CompletedProcess[str], reason: str) -> None:
    assert done.returncode == 3, done.stderr
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    assert reason in error


def serving(server: S3Server, folder: Path) -> LiveSite:
    """A site with an instance that serves a release of it already."""
    site = new_site(server, folder)
    site.write(OTHER)
    publish_here(site, "v1")
    promote_here(site, "v1")
    serve_here(site)
    return site


def test_s3_gone_is_one_line_and_the_site_stays(moto_server: S3Server, tmp_path: Path) -> None:
    site = serving(moto_server, tmp_path)
    [port] = free_ports(1)
    assert_could_not_ask(run_once(asking(site, f"http://127.0.0.1:{port}")), f"127.0.0.1:{port}")
    assert site.live() == OTHER


def test_a_bucket_that_does_not_exist_is_named(server: S3Server, tmp_path: Path) -> None:
    site = serving(server, tmp_path)
    done = run_once(site, S3SYNC_SITE="s3://no-such-bucket-anywhere/web")
    assert_could_not_ask(done, "no-such-bucket-anywhere")
    assert site.live() == OTHER


def test_denied_credentials_are_told_from_a_missing_pointer(seaweedfs: S3Server, tmp_path: Path) -> None:
    site = serving(seaweedfs, tmp_path)
    done = run_once(signed_by(site, READER))
    assert_could_not_ask(done, parse_site(site.url).bucket)
    assert "denied" in done.stderr.lower()
    assert site.live() == OTHER
