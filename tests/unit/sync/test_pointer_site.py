"""One tick on a site with a pointer: what goes live, what does not, and what it costs."""

from __future__ import annotations

import errno
import gc
import json
from pathlib import Path

import msgspec
import pytest

from s3sync_agent.errors import (
    AgentBusy,
    ConfigError,
    DigestMismatch,
    DiskFull,
    ManifestInvalid,
    PointerInvalid,
    PointerLost,
    ReleaseMissing,
    RollbackRefused,
    S3SyncError,
    StoreUnavailable,
    TooLarge,
    UnsafePath,
)
from s3sync_agent.layout import Site
from s3sync_agent.release import Manifest, digest, encode_manifest
from s3sync_agent.webroot import Space
from s3sync_agent.webroot.state import Denial, State
from tests.agents import Agent, FakeClock
from tests.fakes import MemoryBucket
from tests.publisher import Publisher
from tests.releases import PAGES, SITE, place_manifest

NEW_PAGES = {
    "index.html": b"<h1>hello again</h1>" * 20,
    "about/index.html": PAGES["about/index.html"],
    "assets/app-9c8b7a6f.js": b"console.log(2)" * 20,
    "logo.png": PAGES["logo.png"],
}


def test_a_promoted_release_is_served_byte_for_byte(agent: Agent, publisher: Publisher) -> None:
    release = publisher.publish("v1")
    publisher.promote("v1")
    outcome = agent.tick()
    assert agent.live == PAGES
    assert outcome.wanted == agent.webroot.live() == agent.healthy == release


def test_a_cold_start_takes_pointer_manifest_and_one_range(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    assert [operation for operation, _ in bucket.requests] == ["get_if_changed", "get", "get_range"]


def test_an_idle_tick_is_one_request_and_writes_nothing(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.attempt()
    before = _fingerprint(agent.folder)
    bucket.requests.clear()
    agent.clock.advance(5)
    agent.attempt()
    assert bucket.requests == [("get_if_changed", SITE.pointer)]
    assert _fingerprint(agent.folder) == before


def test_an_unchanged_pointer_is_not_nothing_to_do(agent: Agent, publisher: Publisher) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    agent.settings.state.live.unlink()
    agent.tick()
    assert agent.live == PAGES


def test_an_update_links_what_is_here_and_fetches_the_rest_in_one_range(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    first = publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    second = publisher.publish("v2", NEW_PAGES)
    publisher.promote("v2")
    bucket.requests.clear()
    agent.tick()
    assert agent.live == NEW_PAGES
    assert bucket.count("get_range") <= 2
    state = agent.settings.state
    assert (state.release(first) / "logo.png").samefile(state.release(second) / "logo.png")
    assert agent.reporter.named("stage.done")[-1]["linked"] == 2


def test_a_rollback_costs_one_request_and_downloads_nothing(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    publisher.publish("v2", NEW_PAGES)
    publisher.promote("v2")
    agent.tick()
    publisher.roll_back("v1")
    bucket.requests.clear()
    agent.tick()
    assert agent.live == PAGES
    assert bucket.requests == [("get_if_changed", SITE.pointer)]


def test_assets_of_the_release_before_stay_reachable(agent: Agent, publisher: Publisher) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    publisher.publish("v2", NEW_PAGES)
    publisher.promote("v2")
    agent.tick()
    assert agent.assets == {"assets/app-3f2a9c1b.js", "assets/app-9c8b7a6f.js"}


def test_assets_of_a_prepared_release_are_there_before_it_is_live(agent: Agent, publisher: Publisher) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    publisher.publish("v2", NEW_PAGES)
    publisher.prepare("v2")
    agent.tick()
    assert agent.live == PAGES
    assert "assets/app-9c8b7a6f.js" in agent.assets


def test_a_path_whose_bytes_differ_between_releases_leaves_the_union(
    agent: Agent, publisher: Publisher
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    publisher.publish("v2", PAGES | {"assets/app-3f2a9c1b.js": b"other bytes, same name"})
    publisher.promote("v2")
    agent.tick()
    assert agent.assets == set()
    assert agent.live["assets/app-3f2a9c1b.js"] == b"other bytes, same name"


def test_the_same_content_has_the_same_mtime_in_every_release_and_on_every_instance(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket, tmp_path: Path
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    other = Agent(tmp_path / "other", bucket, identity="i-2")
    other.tick()
    mine = (agent.settings.state.live / "index.html").stat()
    theirs = (other.settings.state.live / "index.html").stat()
    assert (mine.st_mtime_ns, mine.st_size) == (theirs.st_mtime_ns, theirs.st_size)
    other.stop()


# ----------------------------------------------------------------- at its time, and for whom


def test_a_release_waits_for_its_instant_and_the_baseline_is_served(
    agent: Agent, publisher: Publisher
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    publisher.publish("v2", NEW_PAGES)
    publisher.promote("v2", activate_in=10)
    agent.tick()
    due = agent.sync.next_due()
    assert agent.live == PAGES
    assert due is not None
    agent.clock.wall = due.at - 0.001
    agent.sync.activate_due()
    assert agent.live == PAGES
    agent.clock.wall = due.at
    agent.sync.activate_due()
    assert agent.live == NEW_PAGES


def test_the_instant_is_kept_while_s3_is_away(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    publisher.publish("v2", NEW_PAGES)
    publisher.promote("v2", activate_in=10)
    agent.attempt()
    bucket.outage = StoreUnavailable("no network")
    agent.attempt()
    due = agent.sync.next_due()
    assert due is not None
    agent.clock.wall = due.at
    agent.sync.activate_due()
    assert agent.live == NEW_PAGES


def test_a_newcomer_before_the_instant_serves_the_baseline(
    publisher: Publisher, bucket: MemoryBucket, tmp_path: Path
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    publisher.publish("v2", NEW_PAGES)
    publisher.promote("v2", activate_in=30)
    newcomer = Agent(tmp_path / "new", bucket, FakeClock(publisher.now))
    newcomer.tick()
    assert newcomer.live == PAGES
    assert newcomer.healthy
    assert len(newcomer.webroot.complete()) == 2
    newcomer.stop()


def test_outside_the_rollout_the_baseline_is_served(agent: Agent, publisher: Publisher) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    publisher.publish("v2", NEW_PAGES)
    publisher.promote("v2")
    publisher.limit_to(0)
    agent.tick()
    assert agent.live == PAGES
    publisher.limit_to(100)
    agent.tick()
    assert agent.live == NEW_PAGES


def test_a_denied_promotion_is_not_taken_and_the_same_release_promoted_again_is(
    agent: Agent, publisher: Publisher
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    publisher.publish("v2", NEW_PAGES)
    pointer = publisher.promote("v2")
    agent.instance.remember(denied=(Denial(pointer.active.promotion_id, "probe failed"),))
    agent.restart()
    agent.tick()
    assert agent.live == PAGES
    publisher.promote("v2")
    agent.tick()
    assert agent.live == NEW_PAGES


# ------------------------------------------------------------------- what must not go live


def test_a_lost_pointer_is_an_error_and_the_site_stays(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    del bucket.objects[SITE.pointer]
    bucket.place(SITE.current + "index.html", b"bare files now")
    with pytest.raises(PointerLost, match="is gone"):
        agent.tick()
    assert agent.live == PAGES


def test_a_lost_pointer_is_an_error_even_when_the_state_was_lost_too(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    del bucket.objects[SITE.pointer]
    bucket.place(SITE.current + "index.html", b"bare files now")
    agent.settings.state.state.unlink()
    agent.restart()
    with pytest.raises(PointerLost):
        agent.tick()
    assert agent.live == PAGES


def test_with_source_pointer_bare_files_are_never_taken(tmp_path: Path) -> None:
    agent = Agent(tmp_path, source="pointer")
    assert isinstance(agent.bucket, MemoryBucket)
    agent.bucket.place(SITE.current + "index.html", b"bare")
    with pytest.raises(PointerLost, match="there is no pointer"):
        agent.tick()
    assert agent.webroot.live() is None
    assert not agent.healthy


@pytest.mark.parametrize(
    "garbage",
    [b"", b"garbage", b"{}", b"[" * 100_000, b'{"signed":{"type":"other"}}', b"\xff\xfe", b"null"],
)
def test_a_pointer_with_garbage_is_refused_and_the_site_stays(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket, garbage: bytes
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    bucket.place(SITE.pointer, garbage)
    with pytest.raises((PointerInvalid, TooLarge)):
        agent.tick()
    assert agent.live == PAGES


def test_a_pointer_of_another_site_is_refused(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v1")
    pointer = publisher.promote("v1")
    publisher.write(msgspec.structs.replace(pointer, site="s3://bucket/staging"))
    with pytest.raises(PointerInvalid, match="staging"):
        agent.tick()
    assert agent.webroot.live() is None


def test_an_older_pointer_put_back_is_refused(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    old = publisher.raw_pointer()
    publisher.publish("v2", NEW_PAGES)
    publisher.promote("v2")
    agent.tick()
    bucket.place(SITE.pointer, old)
    with pytest.raises(RollbackRefused):
        agent.tick()
    assert agent.live == NEW_PAGES


def test_the_same_sequence_with_other_bytes_is_refused(agent: Agent, publisher: Publisher) -> None:
    publisher.publish("v1")
    pointer = publisher.promote("v1")
    agent.tick()
    publisher.publish("v2", NEW_PAGES)
    publisher.change(sequence=pointer.sequence, active=publisher.ref("v2"))
    with pytest.raises(RollbackRefused):
        agent.tick()
    assert agent.live == PAGES


def test_a_manifest_that_climbs_out_is_refused_and_nothing_is_written_outside(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    publisher.publish("v2", NEW_PAGES)
    stored = publisher.releases["v2"]
    first, *rest = stored.manifest.files
    evil = msgspec.structs.replace(first, path="../../etc/x")
    climbing = msgspec.structs.replace(stored.manifest, files=(evil, *rest))
    publisher.releases["v2"] = place_manifest(bucket, climbing)
    publisher.promote("v2")
    before = {str(path) for path in agent.folder.parent.rglob("*")}
    with pytest.raises(UnsafePath, match=r"\.\./\.\./etc/x"):
        agent.tick()
    assert agent.live == PAGES
    new = {str(path) for path in agent.folder.parent.rglob("*")} - before
    assert new == set()


@pytest.mark.parametrize("damage", ["flip", "truncate", "vanish"])
def test_a_damaged_pack_is_refused_and_the_site_stays(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket, damage: str
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    publisher.publish("v2", {name: body + b"2" for name, body in NEW_PAGES.items()})
    publisher.promote("v2")
    key = publisher.pack_key("v2")
    if damage == "flip":
        bucket.corrupt(key)
    elif damage == "truncate":
        bucket.truncate(key, 10)
    else:
        del bucket.objects[key]
    with pytest.raises(ReleaseMissing if damage == "vanish" else DigestMismatch):
        agent.tick()
    assert agent.live == PAGES
    assert list(agent.settings.state.staging.iterdir()) == []


def test_a_changed_manifest_is_refused_by_its_digest(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    bucket.corrupt(SITE.manifest("v1"))
    with pytest.raises(DigestMismatch):
        agent.tick()
    assert agent.webroot.live() is None


def test_a_manifest_of_another_version_is_refused(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v1")
    stored = publisher.releases["v1"]
    raw = encode_manifest(msgspec.structs.replace(stored.manifest, version="v9"))
    bucket.place(SITE.manifest("v1"), raw)
    ref = msgspec.structs.replace(publisher.ref("v1"), manifest_sha256=digest(raw), manifest_size=len(raw))
    publisher.promote("v1")
    publisher.change(active=ref)
    with pytest.raises(ManifestInvalid, match="not v1"):
        agent.tick()


def test_a_release_that_does_not_fit_is_refused_before_anything_is_touched(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    publisher.publish("v2", NEW_PAGES)
    publisher.promote("v2")
    bucket.requests.clear()
    for space, reason in ((Space(100, 10_000), "bytes"), (Space(10**9, 1), "inodes")):
        monkeypatch.setattr(agent.webroot, "space", lambda space=space: space)
        agent.clock.advance(120)
        with pytest.raises(DiskFull, match=reason):
            agent.tick()
    assert agent.live == PAGES
    assert bucket.count("get_range") == 0
    assert list(agent.settings.state.staging.iterdir()) == []


def test_old_releases_are_pruned_to_make_room_before_a_release_is_refused(
    agent: Agent, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        publisher.publish(f"v{number}", PAGES | {"index.html": b"%d" % number * 50})
        publisher.promote(f"v{number}")
        agent.tick()
    assert len(agent.webroot.complete()) == 3

    def space() -> Space:
        return Space(10**9 if len(agent.webroot.complete()) < 3 else 0, 10**6)

    monkeypatch.setattr(agent.webroot, "space", space)
    publisher.publish("v9", NEW_PAGES)
    publisher.promote("v9")
    agent.tick()
    assert agent.live == NEW_PAGES


# ------------------------------------------------------------------------ keeping and pruning


def test_keep_releases_bounds_what_is_on_disk(agent: Agent, publisher: Publisher) -> None:
    for number in range(8):
        publisher.publish(f"v{number}", PAGES | {"index.html": b"%d" % number * 50})
        publisher.promote(f"v{number}")
        agent.tick()
        agent.clock.advance(60)
    assert len(agent.webroot.complete()) == 3
    assert agent.live["index.html"] == b"7" * 50


def test_assets_of_pruned_releases_stay_for_their_retention(agent: Agent, publisher: Publisher) -> None:
    for number in range(5):
        asset = f"assets/app-0000000{number}a.js"
        publisher.publish(f"v{number}", {"index.html": b"%d" % number * 50, asset: b"%d" % number * 90})
        publisher.promote(f"v{number}")
        agent.tick()
        agent.clock.advance(60)
    assert len(agent.webroot.complete()) == 3
    assert len(agent.assets) == 5
    agent.clock.advance(agent.settings.asset_retention + 1)
    agent.tick()
    assert agent.assets == {f"assets/app-0000000{number}a.js" for number in (2, 3, 4)}


def test_what_the_pointer_names_is_never_pruned(tmp_path: Path) -> None:
    agent = Agent(tmp_path, keep_releases=1)
    assert isinstance(agent.bucket, MemoryBucket)
    publisher = Publisher(agent.bucket)
    for version in ("v1", "v2", "v3"):
        publisher.publish(version, PAGES | {"index.html": version.encode() * 50})
    publisher.promote("v1")
    publisher.promote("v2")
    publisher.prepare("v3")
    agent.tick()
    assert {name.split("-")[0] for name in agent.webroot.complete()} == {"v1", "v2", "v3"}


def test_a_full_disk_does_not_keep_a_rollback_away(
    agent: Agent, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("v1", "v2", "v3"):
        publisher.publish(version, PAGES | {"index.html": version.encode() * 50})
        publisher.promote(version)
        agent.tick()
    save = agent.webroot.save_state

    def full(state: State) -> None:
        if len(agent.webroot.complete()) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(state)

    monkeypatch.setattr(agent.webroot, "save_state", full)
    publisher.roll_back("v2")
    agent.tick()
    assert agent.live["index.html"] == b"v2" * 50


def test_what_is_kept_does_not_grow_with_the_number_of_releases(agent: Agent, publisher: Publisher) -> None:
    sizes = []
    for number in range(60):
        asset = f"assets/app-{number:07}a.js"
        publisher.publish(f"v{number}", PAGES | {"index.html": b"%d" % number * 50, asset: b"x%d" % number})
        publisher.promote(f"v{number}")
        agent.tick()
        agent.clock.advance(agent.settings.asset_retention / 10)
        sizes.append(len(list(agent.folder.rglob("*"))))
    assert len(set(sizes[20:])) == 1
    assert len(agent.instance.memory.retired) <= agent.settings.keep_releases


# ------------------------------------------------------------------------------- restarts


def test_a_restart_serves_at_once_what_the_disk_shows(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    bucket.outage = StoreUnavailable("no network")
    agent.restart()
    with pytest.raises(StoreUnavailable):
        agent.tick()
    assert agent.live == PAGES
    assert agent.healthy


def test_a_restart_while_staged_goes_on_without_downloading_again(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    publisher.publish("v2", NEW_PAGES)
    publisher.promote("v2", activate_in=30)
    agent.tick()
    agent.restart()
    bucket.requests.clear()
    agent.clock.advance(60)
    agent.tick()
    assert agent.live == NEW_PAGES
    assert bucket.requests == [("get_if_changed", SITE.pointer)]


@pytest.mark.parametrize("content", [None, b"", b"garbage", b'{"schema":9}', b'{"pointer":"x"}'])
def test_a_lost_or_unreadable_state_costs_one_unconditional_get(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket, content: bytes | None
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    if content is None:
        agent.settings.state.state.unlink()
    else:
        agent.settings.state.state.write_bytes(content)
    agent.restart()
    bucket.requests.clear()
    agent.tick()
    assert agent.live == PAGES
    assert bucket.requests == [("get_if_changed", SITE.pointer)]


def test_leftovers_of_a_crash_are_swept_and_the_live_release_stays(
    agent: Agent, publisher: Publisher
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    state = agent.settings.state
    (state.staging / "v2-0123456789ab.deadbeef" / "deep").mkdir(parents=True)
    (state.releases / "v0-0123456789ab").mkdir()
    swept = agent.restart()
    assert len(swept) == 2
    assert agent.live == PAGES


def test_a_release_whose_manifest_was_lost_is_staged_again_under_its_name(
    agent: Agent, publisher: Publisher
) -> None:
    release = publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    agent.settings.state.manifest(release).unlink()
    agent.restart()
    agent.tick()
    assert agent.live == PAGES
    assert agent.webroot.manifest(release).version == "v1"


def test_live_made_a_directory_by_somebody_is_replaced(agent: Agent, publisher: Publisher) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    live = agent.settings.state.live
    live.unlink()
    live.mkdir()
    (live / "index.html").write_text("somebody's own")
    agent.tick()
    assert live.is_symlink()
    assert agent.live == PAGES


def test_previous_is_the_last_good_release(agent: Agent, publisher: Publisher) -> None:
    first = publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    assert agent.webroot.previous() is None
    publisher.publish("v2", NEW_PAGES)
    publisher.promote("v2")
    agent.tick()
    assert agent.webroot.previous() == first


def test_two_agents_cannot_share_a_state_directory(agent: Agent) -> None:
    with pytest.raises(AgentBusy):
        Agent(agent.folder, agent.bucket)


# ------------------------------------------------------------------- failing, and going on


def test_a_release_that_cannot_be_staged_does_not_keep_a_newer_one_away(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    bucket.corrupt(publisher.pack_key("v1"))
    with pytest.raises(DigestMismatch):
        agent.tick()
    publisher.publish("v2", NEW_PAGES)
    publisher.promote("v2")
    publisher.change(baseline=None)
    agent.tick()
    assert agent.live == NEW_PAGES


def test_a_release_that_cannot_be_staged_is_not_downloaded_on_every_tick(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    bucket.corrupt(publisher.pack_key("v1"))
    for _ in range(60):
        agent.attempt()
        agent.clock.advance(1)
    assert bucket.count("get_range") < 8
    assert len(agent.reporter.named("stage.failed")) == 1
    assert "poll.failed" not in agent.reporter.names


def test_a_broken_baseline_does_not_keep_the_active_release_away(
    publisher: Publisher, bucket: MemoryBucket, tmp_path: Path
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    publisher.publish("v2", NEW_PAGES)
    publisher.promote("v2")
    bucket.corrupt(publisher.pack_key("v1"))
    newcomer = Agent(tmp_path / "new", bucket)
    with pytest.raises(DigestMismatch):
        newcomer.tick()
    assert newcomer.live == NEW_PAGES
    assert newcomer.healthy
    newcomer.stop()


def test_the_status_document_has_the_words_of_the_log(agent: Agent, publisher: Publisher) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.attempt()
    status = agent.reporter.statuses[-1]
    assert json.loads(msgspec.json.encode(status))["serving"] == agent.webroot.live()
    assert (status.state, status.wanted, status.behind_seconds) == ("steady", status.serving, 0.0)


def _fingerprint(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_ino) for p in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("error", [StoreUnavailable("S3 is away"), PointerInvalid("garbage")])
def test_what_became_due_while_nobody_ran_goes_live_although_s3_does_not_tell(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket, error: S3SyncError
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    new = publisher.publish("v2", NEW_PAGES)
    publisher.promote("v2", activate_in=30)
    agent.tick()
    agent.stop()
    agent.clock.advance(40)
    agent.restart()
    bucket.fail_next("get_if_changed", error)
    with pytest.raises(type(error)):
        agent.tick()
    assert agent.webroot.live() == new


def test_nothing_goes_live_once_the_pointer_is_lost(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    old = publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    publisher.publish("v2", NEW_PAGES)
    publisher.promote("v2", activate_in=30)
    agent.tick()
    agent.clock.advance(40)
    del bucket.objects[SITE.pointer]
    with pytest.raises(PointerLost):
        agent.tick()
    assert agent.webroot.live() == old


def test_a_release_promoted_twice_is_good_and_becomes_previous(agent: Agent, publisher: Publisher) -> None:
    old = publisher.publish("v1")
    for version in ("v1", "v1"):
        publisher.promote(version)
        agent.tick()
    publisher.publish("v2", NEW_PAGES)
    publisher.promote("v2")
    agent.tick()
    assert agent.webroot.previous() == old


def test_a_pointer_accepted_for_another_site_is_no_answer_for_this_one(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    agent.stop()
    other = Site("bucket", "other")
    bucket.objects[other.pointer] = bucket.objects[SITE.pointer]  # the same bytes, the same ETag
    moved = Agent(agent.folder, bucket, agent.clock, site=other.url)
    with pytest.raises(PointerInvalid):
        moved.tick()
    assert moved.sync.wanted() is None
    moved.stop()


def test_of_releases_that_could_not_be_staged_nothing_stays_in_memory(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    for version in ("broken-1", "broken-2"):
        publisher.publish(version, NEW_PAGES | {"version.txt": version.encode()})
        bucket.corrupt(publisher.pack_key(version))
        publisher.promote(version)
        with pytest.raises(DigestMismatch):
            agent.tick()
    publisher.releases.clear()
    gc.collect()
    kept = [thing.version for thing in gc.get_objects() if isinstance(thing, Manifest)]
    assert not {"broken-1", "broken-2"}.intersection(kept)


@pytest.mark.parametrize("name", ["releases", "staging", "manifests", "assets", "run"])
def test_a_directory_removed_under_the_agent_comes_back_with_what_was_in_it(
    agent: Agent, publisher: Publisher, name: str
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.attempt()
    (agent.folder / name).rename(agent.folder / "away")
    agent.attempt()
    publisher.publish("v2", NEW_PAGES)
    publisher.promote("v2")
    assert agent.attempt().error is None
    assert agent.live == NEW_PAGES
    assert agent.healthy == agent.webroot.live()
    assert "assets/app-9c8b7a6f.js" in agent.assets


def test_a_run_directory_that_cannot_be_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="run directory"):
        Agent(tmp_path / "state", run_dir=str(tmp_path / "file" / "run"))


def test_a_newcomer_that_cannot_stage_the_active_release_serves_the_baseline(
    publisher: Publisher, bucket: MemoryBucket, tmp_path: Path
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    publisher.publish("v2", {path: body + b" new" for path, body in PAGES.items()})
    publisher.promote("v2")
    bucket.corrupt(publisher.pack_key("v2"))
    newcomer = Agent(tmp_path / "new", bucket)
    for _ in range(3):
        with pytest.raises(DigestMismatch):
            newcomer.tick()
        assert newcomer.live == PAGES
        assert newcomer.healthy
    assert newcomer.sync.wanted() == publisher.ref("v2").id
    newcomer.stop()


def test_a_rebooted_instance_that_cannot_stage_the_active_release_is_healthy_with_the_old_one(
    agent: Agent, publisher: Publisher, bucket: MemoryBucket
) -> None:
    publisher.publish("v1")
    publisher.promote("v1")
    agent.tick()
    publisher.publish("v2", {path: body + b" new" for path, body in PAGES.items()})
    publisher.promote("v2")
    bucket.corrupt(publisher.pack_key("v2"))
    agent.settings.run.healthy.unlink()
    agent.restart()
    with pytest.raises(DigestMismatch):
        agent.tick()
    assert agent.healthy == agent.webroot.live()
    assert agent.live == PAGES
