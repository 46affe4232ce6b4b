"""Two of our commands at once, as processes of their own: nothing is lost, and the loser is told who won."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from s3sync_agent.layout import parse_site
from s3sync_agent.pointer import Pointer, parse_pointer
from tests.agent_process import COMMANDS, command, minimal
from tests.counting import Asked, counted
from tests.integration.conftest import LiveSite
from tests.integration.sites import asking, new_site, promote_here, publish_here
from tests.servers import S3Server

VERSIONS = ("v1", "v2", "v3", "v4")


@pytest.fixture(params=["moto_server", "seaweedfs"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def site(server: S3Server, tmp_path: Path) -> LiveSite:
    """Four releases, and none of them live."""
    site = new_site(server, tmp_path)
    for version in VERSIONS:
        site.write({"index.html": f"<h1>{version}</h1>"})
        publish_here(site, version)
    return site


def at_once(site: LiveSite, *commands: tuple[str, ...]) -> list[subprocess.CompletedProcess[str]]:
    """Run these commands of `s3sync` all at the same time."""
    processes = [
        subprocess.Popen(
            [str(COMMANDS / "s3sync"), *arguments],
            env=minimal(site.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for arguments in commands
    ]
    ended = []
    for process in processes:
        output, errors = process.communicate(timeout=50)
        ended.append(subprocess.CompletedProcess(process.args, process.returncode, output, errors))
    return ended


def pointer_of(site: LiveSite, server: S3Server) -> Pointer:
    where = parse_site(site.url)
    raw = server.admin.get_object(Bucket=where.bucket, Key=where.pointer)["Body"].read()
    return parse_pointer(raw).pointer


def history_of(site: LiveSite, server: S3Server) -> list[str]:
    return [entry.version for entry in pointer_of(site, server).history]


# -------------------------------------------------------------------------------- promote


def _writes_the_pointer(asked: Asked) -> bool:
    return asked.method == "PUT" and asked.key.endswith("/pointer.json")


def promotion(version: str) -> tuple[str, ...]:
    return ("promote", version, "--now", "--no-mirror")


@pytest.mark.parametrize("before", [[], ["v3"]], ids=["the first pointer", "a later one"])
def test_of_two_promoters_that_decided_at_once_one_wins_and_the_other_names_it(
    site: LiveSite, server: S3Server, before: list[str]
) -> None:
    for version in before:
        promote_here(site, version)
    with counted(server.endpoint) as counter:
        counter.let_meet(2, _writes_the_pointer)
        ended = at_once(asking(site, counter.endpoint), promotion("v1"), promotion("v2"))
    assert sorted(done.returncode for done in ended) == [0, 5], [done.stderr for done in ended]
    winner, loser = ("v1", "v2") if ended[0].returncode == 0 else ("v2", "v1")
    complaint = next(done.stderr for done in ended if done.returncode == 5)
    assert complaint.startswith(f"error: {loser} was not promoted: the pointer is at {winner} by ")
    assert "hint: " in complaint
    assert pointer_of(site, server).active.version == winner
    assert history_of(site, server) == [winner, *before]


def test_whatever_promoters_do_at_once_the_history_shows_every_success(
    site: LiveSite, server: S3Server
) -> None:
    promote_here(site, "v1")
    first = pointer_of(site, server).sequence
    ended = at_once(site, *(promotion(version) for version in VERSIONS[1:]))
    assert {done.returncode for done in ended} <= {0, 5}, [done.stderr for done in ended]
    promoted = {version for version, done in zip(VERSIONS[1:], ended, strict=True) if done.returncode == 0}
    newest, *others = history_of(site, server)
    assert promoted
    assert newest == pointer_of(site, server).active.version
    assert sorted([newest, *others]) == sorted({*promoted, "v1"})
    assert pointer_of(site, server).sequence >= first + len(promoted)


# -------------------------------------------------------------------------------- publish


def builds(site: LiveSite, tmp_path: Path, *contents: dict[str, str]) -> list[Path]:
    folders = []
    for number, files in enumerate(contents):
        folder = replace(site, folder=tmp_path / f"build-{number}")
        folder.write(files)
        folders.append(folder.folder)
    return folders


def _looks_what_is_there(asked: Asked) -> bool:
    """The listing before the uploads: both then see that nothing is there."""
    return asked.method == "GET" and "list-type" in asked.target and "v9" in asked.target


ONE = {"index.html": "<h1>one build</h1>", "one.html": "one"}
OTHER = {"index.html": "<h1>another one</h1>", "other.html": "other"}


def test_of_two_builds_of_one_version_exactly_one_becomes_the_release(
    site: LiveSite, server: S3Server, tmp_path: Path
) -> None:
    """The tightest race: both have uploaded all of theirs, and write the manifest."""
    folders = builds(site, tmp_path, ONE, OTHER)
    with counted(server.endpoint) as counter:
        counter.let_meet(2, lambda asked: asked.method == "PUT" and asked.key.endswith("/manifest.json"))
        ended = at_once(
            asking(site, counter.endpoint),
            *(("publish", str(folder), "--version", "v9", "--no-files") for folder in folders),
        )
    assert sorted(done.returncode for done in ended) == [0, 4], [done.stderr for done in ended]
    complaint = next(done.stderr for done in ended if done.returncode == 4)
    assert "error: version v9 exists with other content" in complaint
    verified = command("s3sync", "verify", "v9", environ=site.environ)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_two_builds_whose_files_collide_leave_one_whole_release_or_none(
    site: LiveSite, server: S3Server, tmp_path: Path
) -> None:
    folders = builds(site, tmp_path, ONE, OTHER)
    with counted(server.endpoint) as counter:
        counter.let_meet(2, _looks_what_is_there)
        ended = at_once(
            asking(site, counter.endpoint),
            *(("publish", str(folder), "--version", "v9") for folder in folders),
        )
    codes = sorted(done.returncode for done in ended)
    assert codes in ([0, 4], [4, 4]), [done.stderr for done in ended]
    assert all("hint: another build has used this version" in d.stderr for d in ended if d.returncode)
    verified = command("s3sync", "verify", "v9", environ=site.environ)
    assert verified.returncode == (0 if 0 in codes else 4), verified.stdout + verified.stderr


def test_one_build_published_twice_at_once_is_one_release(
    site: LiveSite, server: S3Server, tmp_path: Path
) -> None:
    """As when a pipeline is started twice for one commit."""
    folders = builds(site, tmp_path, ONE, ONE)
    with counted(server.endpoint) as counter:
        counter.let_meet(2, _looks_what_is_there)
        ended = at_once(
            asking(site, counter.endpoint),
            *(("publish", str(folder), "--version", "v9") for folder in folders),
        )
    assert [(done.returncode, done.stdout) for done in ended] == [(0, "v9\n")] * 2, [d.stderr for d in ended]
    assert command("s3sync", "verify", "v9", environ=site.environ).returncode == 0
