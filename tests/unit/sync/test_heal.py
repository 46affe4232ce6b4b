"""Drift: what somebody did to served files, found and put right."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s3sync_agent import heal
from s3sync_agent.errors import StoreUnavailable
from tests.agents import Agent
from tests.fakes import MemoryBucket
from tests.publisher import Publisher
from tests.releases import PAGES, SITE

ASSET = "assets/app-3f2a9c1b.js"


@pytest.fixture
def served(agent: Agent, publisher: Publisher) -> Path:
    """The live tree of an agent that serves PAGES."""
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    live = agent.webroot.live()
    assert live is not None
    return agent.settings.state.release(live)


def overwrite(path: Path, content: bytes, *, keep_times: bool = False) -> None:
    """Write into the very file, as `echo >> file` by root would."""
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(content)
    if keep_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_changed_file_is_replaced_and_never_edited(agent: Agent, served: Path) -> None:
    page = served / "index.html"
    overwrite(page, b"defaced")
    inode = page.stat().st_ino
    assert heal.check_touched(agent.instance, ["index.html"]) == 1
    assert agent.live == PAGES
    assert page.stat().st_ino != inode
    assert page.stat().st_mode & 0o777 == 0o444
    assert agent.reporter.named("drift.healed") == [
        {"release": served.name, "path": "index.html", "kind": "changed"}
    ]


def test_a_change_that_keeps_size_and_time_is_found_by_its_digest(agent: Agent, served: Path) -> None:
    page = served / "index.html"
    overwrite(page, b"X" * page.stat().st_size, keep_times=True)
    assert heal.check_everything(agent.instance, hashing=False) == 0
    assert heal.check_everything(agent.instance, hashing=True) == 1
    assert agent.live == PAGES


def test_healing_asks_for_the_damaged_file_only(agent: Agent, served: Path, bucket: MemoryBucket) -> None:
    overwrite(served / "index.html", b"defaced")
    bucket.requests.clear()
    heal.check_touched(agent.instance, ["index.html"])
    assert [operation for operation, _ in bucket.requests] == ["get_range"]


def test_a_missing_file_and_a_missing_directory_come_back(agent: Agent, served: Path) -> None:
    served.chmod(0o755)
    (served / "about").chmod(0o755)
    (served / "about/index.html").unlink()
    (served / "about").rmdir()
    (served / "logo.png").unlink()
    assert heal.check_touched(agent.instance, ["about", "logo.png"]) == 2
    assert agent.live == PAGES
    assert (served / "about").stat().st_mode & 0o777 == 0o555


def test_a_file_where_a_directory_should_be_is_replaced(agent: Agent, served: Path) -> None:
    served.chmod(0o755)
    (served / "about").chmod(0o755)
    (served / "about/index.html").unlink()
    (served / "about").rmdir()
    (served / "about").write_text("in the way")
    heal.check_everything(agent.instance, hashing=False)
    assert agent.live == PAGES


def test_something_that_does_not_belong_there_is_removed(agent: Agent, served: Path) -> None:
    served.chmod(0o755)
    (served / "shell.php").write_text("evil")
    (served / "deep").mkdir()
    (served / "deep/er.html").write_text("evil")
    (served / "out").symlink_to("/etc")
    assert heal.check_touched(agent.instance, ["shell.php", "deep", "out"]) == 3
    assert agent.live == PAGES
    assert not (served / "out").is_symlink()


def test_a_shared_file_is_healed_in_every_tree_that_links_it(
    agent: Agent, served: Path, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v2", PAGES | {"index.html": b"second" * 50})
    publisher.promote("v2")
    agent.tick()
    live = agent.settings.state.live.resolve()
    assert (served / "logo.png").samefile(live / "logo.png")
    overwrite(live / "logo.png", b"defaced")
    bucket.requests.clear()
    heal.check_touched(agent.instance, ["logo.png"])
    assert (live / "logo.png").read_bytes() == PAGES["logo.png"]
    assert (served / "logo.png").read_bytes() == PAGES["logo.png"]
    assert (served / "logo.png").samefile(live / "logo.png")
    assert bucket.count("get_range") == 1


def test_an_asset_is_healed_with_its_tree(agent: Agent, served: Path) -> None:
    asset = agent.settings.state.assets / ASSET
    overwrite(asset, b"X" * asset.stat().st_size, keep_times=True)
    heal.check_touched(agent.instance, [ASSET])
    assert asset.read_bytes() == PAGES[ASSET]
    assert (served / ASSET).read_bytes() == PAGES[ASSET]
    assert (asset).samefile(served / ASSET)


def test_a_deleted_asset_comes_back_and_a_stray_one_goes(agent: Agent, served: Path) -> None:
    root = agent.settings.state.assets
    (root / ASSET).unlink()
    (root / "stray.js").write_text("evil")
    heal.check_touched(agent.instance, [ASSET, "stray.js"])
    assert agent.assets == {ASSET}


def test_with_drift_report_nothing_is_touched(tmp_path: Path) -> None:
    agent = Agent(tmp_path, drift="report")
    assert isinstance(agent.bucket, MemoryBucket)
    publisher = Publisher(agent.bucket)
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    overwrite(agent.settings.state.live / "index.html", b"defaced")
    assert heal.check_touched(agent.instance, ["index.html"]) == 1
    assert agent.live["index.html"] == b"defaced"
    assert "drift.found" in agent.reporter.names
    assert "drift.healed" not in agent.reporter.names
    agent.stop()


def test_what_cannot_be_healed_now_is_said_and_stays_served(
    agent: Agent, served: Path, bucket: MemoryBucket
) -> None:
    overwrite(served / "index.html", b"defaced")
    bucket.outage = StoreUnavailable("no network")
    heal.check_touched(agent.instance, ["index.html"])
    assert agent.reporter.named("drift.failed")[0]["error"] == "StoreUnavailable"
    bucket.outage = None
    heal.check_everything(agent.instance, hashing=False)
    assert agent.live == PAGES


def test_a_damaged_file_is_no_source_for_a_new_release(
    agent: Agent, served: Path, publisher: Publisher
) -> None:
    overwrite(served / "logo.png", b"defaced")
    publisher.publish("v2", PAGES | {"index.html": b"second" * 50})
    publisher.promote("v2")
    agent.tick()
    assert agent.live["logo.png"] == PAGES["logo.png"]


def test_a_plain_release_is_healed_from_its_object(tmp_path: Path) -> None:
    agent = Agent(tmp_path)
    assert isinstance(agent.bucket, MemoryBucket)
    for path, body in PAGES.items():
        agent.bucket.place(SITE.current + path, body)
    agent.tick()
    agent.clock.advance(60)
    agent.tick()
    overwrite(agent.settings.state.live / "index.html", b"defaced")
    heal.check_touched(agent.instance, ["index.html"])
    assert agent.live == PAGES
    agent.stop()


def test_a_file_that_nginx_may_not_read_is_replaced(agent: Agent, served: Path) -> None:
    (served / "index.html").chmod(0)
    heal.check_everything(agent.instance, hashing=False)
    assert (served / "index.html").stat().st_mode & 0o777 == 0o444
    assert agent.live == PAGES


def test_a_tree_whose_manifest_was_damaged_is_staged_again(agent: Agent, served: Path) -> None:
    agent.settings.state.manifest(served.name).write_bytes(b"garbage")
    heal.check_everything(agent.instance, hashing=True)
    agent.tick()
    assert agent.webroot.manifest(served.name).version == "v1"
    assert agent.live == PAGES


def test_what_lies_behind_a_link_is_not_ours_to_remove(agent: Agent, served: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "customers.csv").write_text("precious")
    shared.chmod(0o750)
    served.chmod(0o755)
    (served / "uploads").symlink_to(shared)  # a directory a moment ago: its events are still in the queue
    heal.check_touched(agent.instance, ["uploads/customers.csv"])
    assert (shared / "customers.csv").read_text() == "precious"
    assert shared.stat().st_mode & 0o777 == 0o750
    assert not (served / "uploads").is_symlink()
    assert agent.live == PAGES


def test_a_link_in_the_place_of_an_asset_directory_is_removed_and_nothing_behind_it(
    agent: Agent, served: Path, tmp_path: Path
) -> None:
    del served
    directory = agent.settings.state.assets / "assets"
    elsewhere = tmp_path / "elsewhere"
    directory.rename(elsewhere)
    theirs = elsewhere / Path(ASSET).name
    theirs.unlink()
    theirs.write_text("theirs")
    directory.symlink_to(elsewhere)
    heal.check_touched(agent.instance, [ASSET])
    assert theirs.read_text() == "theirs"
    assert not directory.is_symlink()
    assert agent.assets == {ASSET}
