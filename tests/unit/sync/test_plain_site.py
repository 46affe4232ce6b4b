"""One tick on a site without a pointer: when `current/` is taken, and when it is held."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from s3sync_agent.errors import SourceChanged, StoreUnavailable, UnsafePath
from s3sync_agent.outcome import Outcome
from s3sync_agent.webroot import Space
from tests.agents import Agent
from tests.fakes import MemoryBucket
from tests.publisher import Publisher
from tests.releases import PAGES, SITE

CURRENT = SITE.current
MORE = PAGES | {f"blog/{number}/index.html": b"post %d" % number for number in range(8)}


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path / "state")
    yield agent
    agent.stop()


@pytest.fixture
def s3(plain: Agent) -> MemoryBucket:
    assert isinstance(plain.bucket, MemoryBucket)
    return plain.bucket


def push(bucket: MemoryBucket, prefix: str, files: Mapping[str, bytes]) -> None:
    for path, body in files.items():
        bucket.place(prefix + path, body)


def settle(agent: Agent) -> Outcome:
    """Tick until the tree has been still for long enough."""
    outcome = agent.tick()
    while outcome.look_again is not None:
        agent.clock.advance(outcome.look_again)
        outcome = agent.tick()
    return outcome


def test_bare_files_are_served_once_they_have_settled(plain: Agent, s3: MemoryBucket) -> None:
    push(s3, CURRENT, PAGES)
    outcome = plain.tick()
    assert outcome.look_again == plain.settings.plain_settle
    assert plain.webroot.live() is None
    plain.clock.advance(plain.settings.plain_settle)
    plain.tick()
    assert plain.live == PAGES
    assert plain.healthy == plain.webroot.live()


def test_a_site_with_nothing_in_it_yet_is_waited_for_and_no_warning(plain: Agent, s3: MemoryBucket) -> None:
    attempt = plain.attempt()
    assert attempt.error is None
    assert attempt.next_in == plain.settings.poll_interval
    assert plain.instance.state.value == "waiting"
    assert plain.reporter.events == []
    publisher = Publisher(s3)
    publisher.publish("v1", PAGES)
    publisher.promote("v1")
    plain.attempt()
    assert plain.live == PAGES


def test_an_idle_plain_tick_is_one_listing(plain: Agent, s3: MemoryBucket) -> None:
    push(s3, CURRENT, PAGES)
    settle(plain)
    s3.requests.clear()
    plain.tick()
    assert s3.requests == [("list", CURRENT)]


def test_a_bare_push_in_progress_is_not_served(plain: Agent, s3: MemoryBucket) -> None:
    push(s3, CURRENT, PAGES)
    settle(plain)
    for path, body in {name: body + b"2" for name, body in MORE.items()}.items():
        s3.place(CURRENT + path, body)
        plain.clock.advance(2)
        plain.tick()
        assert plain.live == PAGES


def test_deleting_in_progress_is_seen_although_it_leaves_no_time_behind(
    plain: Agent, s3: MemoryBucket
) -> None:
    push(s3, CURRENT, MORE)
    settle(plain)
    plain.clock.advance(3600)
    for number in range(3):
        del s3.objects[f"{CURRENT}blog/{number}/index.html"]
        plain.tick()
        plain.clock.advance(1)
        assert len(plain.live) == len(MORE)
    settle(plain)
    assert len(plain.live) == len(MORE) - 3


def test_an_update_fetches_only_what_changed(plain: Agent, s3: MemoryBucket) -> None:
    push(s3, CURRENT, PAGES)
    settle(plain)
    s3.place(CURRENT + "index.html", b"new")
    s3.requests.clear()
    settle(plain)
    assert plain.live == PAGES | {"index.html": b"new"}
    assert [key for operation, key in s3.requests if operation == "open"] == [CURRENT + "index.html"]


@pytest.mark.parametrize("done", range(len(PAGES)))
def test_a_push_by_way_of_releases_interrupted_at_any_object_is_never_served(
    plain: Agent, s3: MemoryBucket, done: int
) -> None:
    push(s3, SITE.release("20261122T100000Z"), PAGES)
    push(s3, CURRENT, PAGES)
    settle(plain)
    new = {path: body + b" new" for path, body in PAGES.items()}
    push(s3, SITE.release("20261122T110000Z"), new)
    push(s3, CURRENT, dict(list(new.items())[:done]))
    outcome = settle(plain)
    assert plain.live == PAGES
    assert bool(outcome.held) == (done > 0)
    push(s3, CURRENT, new)
    settle(plain)
    assert plain.live == new
    assert str(plain.webroot.live()).startswith("20261122T110000Z-")


@pytest.mark.parametrize("done", range(len(PAGES)))
def test_a_first_push_by_way_of_releases_interrupted_at_any_object_is_never_served(
    plain: Agent, s3: MemoryBucket, done: int
) -> None:
    push(s3, SITE.release("20261122T100000Z"), PAGES)
    push(s3, CURRENT, dict(list(PAGES.items())[:done]))
    outcome = settle(plain)
    assert bool(outcome.held) == (done > 0)
    assert plain.webroot.live() is None
    assert not plain.healthy


def test_a_held_tree_is_reported_once_and_compared_less_and_less_often(
    plain: Agent, s3: MemoryBucket
) -> None:
    push(s3, SITE.release("20261122T100000Z"), MORE)
    push(s3, CURRENT, PAGES)
    settle(plain)
    s3.requests.clear()
    for _ in range(40):
        plain.attempt()
        plain.clock.advance(15)
    held = plain.reporter.named("plain.held")
    assert len(held) == 1
    assert "is missing in current/" in held[0]["reason"]
    assert s3.count("list_prefixes") <= 6
    assert plain.instance.state.value == "held"


def test_multipart_etags_are_not_compared(plain: Agent, s3: MemoryBucket) -> None:
    push(s3, SITE.release("r1"), PAGES)
    push(s3, CURRENT, PAGES)
    key = SITE.release("r1") + "index.html"
    s3.place(key, PAGES["index.html"], etag="0123456789abcdef0123456789abcdef-2")
    settle(plain)
    assert plain.live == PAGES


def test_etags_of_kms_objects_are_not_compared(plain: Agent, s3: MemoryBucket) -> None:
    push(s3, SITE.release("r1"), PAGES)
    for number, (path, body) in enumerate(PAGES.items()):
        s3.place(CURRENT + path, body, etag=f"{number:032x}", encrypted_by_kms=True)
    settle(plain)
    assert plain.live == PAGES


def test_an_interrupted_copy_of_kms_objects_is_not_served(plain: Agent, s3: MemoryBucket) -> None:
    """The sizes are those of the new release already: a date in the footer."""
    for number, (path, body) in enumerate(PAGES.items()):
        s3.place(CURRENT + path, body, etag=f"{number:032x}", encrypted_by_kms=True)
    settle(plain)
    plain.clock.advance(60)
    new = {path: body[:-1] + b"2" for path, body in PAGES.items()}
    for number, (path, body) in enumerate(new.items()):
        s3.place(SITE.release("r2") + path, body, etag=f"{number + 50:032x}", encrypted_by_kms=True)
    plain.clock.advance(5)
    for number, (path, body) in enumerate(list(new.items())[:2]):
        s3.place(CURRENT + path, body, etag=f"{number + 90:032x}", encrypted_by_kms=True)
    assert "is older than the release" in settle(plain).held
    assert plain.live == PAGES
    for number, (path, body) in enumerate(new.items()):
        s3.place(CURRENT + path, body, etag=f"{number + 90:032x}", encrypted_by_kms=True)
    settle(plain)
    assert plain.live == new


def test_a_download_that_fails_is_not_repeated_on_every_tick(
    plain: Agent, s3: MemoryBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(s3, CURRENT, PAGES)
    plain.attempt()
    plain.clock.advance(60)
    monkeypatch.setattr(plain.webroot, "space", lambda: Space(0, 0))
    for _ in range(40):
        plain.attempt()
        plain.clock.advance(15)
    assert len(plain.reporter.named("stage.failed")) == 1
    assert plain.reporter.named("poll.failed") == []


def test_a_complete_marker_settles_at_once(plain: Agent, s3: MemoryBucket) -> None:
    push(s3, CURRENT, PAGES)
    s3.place(SITE.complete_marker, b"")
    plain.tick()
    assert plain.live == PAGES


def test_a_complete_marker_older_than_a_file_says_nothing(plain: Agent, s3: MemoryBucket) -> None:
    s3.place(SITE.complete_marker, b"")
    plain.clock.advance(5)
    push(s3, CURRENT, PAGES)
    assert plain.tick().look_again is not None


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        ({}, "is empty"),
        ({"about/index.html": b"x"}, "has no index.html"),
        ({"index.html": b"x"}, "shrank from"),
    ],
)
def test_a_tree_that_lost_too_much_is_held(
    plain: Agent, s3: MemoryBucket, left: dict[str, bytes], reason: str
) -> None:
    push(s3, CURRENT, MORE)
    settle(plain)
    s3.objects.clear()
    push(s3, CURRENT, left)
    outcome = settle(plain)
    assert reason in outcome.held
    assert plain.live == MORE


def test_a_complete_marker_says_that_shrinking_was_meant(plain: Agent, s3: MemoryBucket) -> None:
    push(s3, CURRENT, MORE)
    settle(plain)
    s3.objects.clear()
    push(s3, CURRENT, {"index.html": b"small now"})
    s3.place(SITE.complete_marker, b"")
    settle(plain)
    assert plain.live == {"index.html": b"small now"}


def test_an_object_replaced_between_listing_and_reading_starts_over(plain: Agent, s3: MemoryBucket) -> None:
    push(s3, CURRENT, PAGES)
    plain.tick()
    plain.clock.advance(60)

    def interfere(operation: str, key: str) -> None:
        if operation == "open" and key.endswith("logo.png"):
            s3.before = None
            s3.place(CURRENT + "logo.png", b"another logo")

    s3.before = interfere
    with pytest.raises(SourceChanged):
        plain.tick()
    assert plain.webroot.live() is None
    settle(plain)
    assert plain.live == PAGES | {"logo.png": b"another logo"}


def test_a_change_while_the_last_file_is_read_starts_over(plain: Agent, s3: MemoryBucket) -> None:
    push(s3, CURRENT, PAGES)
    plain.tick()
    plain.clock.advance(60)
    listings = 0

    def interfere(operation: str, _key: str) -> None:
        nonlocal listings
        listings += operation == "list"
        if listings == 2:
            s3.before = None
            s3.place(CURRENT + "new.html", b"came late")

    s3.before = interfere
    with pytest.raises(SourceChanged):
        plain.tick()
    assert plain.webroot.live() is None


def test_a_listing_that_fails_is_never_an_empty_one(plain: Agent, s3: MemoryBucket) -> None:
    push(s3, CURRENT, PAGES)
    settle(plain)
    s3.outage = StoreUnavailable("SlowDown")
    with pytest.raises(StoreUnavailable):
        plain.tick()
    assert plain.live == PAGES


@pytest.mark.parametrize("name", ["../x", "a//b", "a/../b", "back\\slash", "nul\0", "n" * 300, "a/b"])
def test_keys_that_must_not_become_files_are_refused(plain: Agent, s3: MemoryBucket, name: str) -> None:
    push(s3, CURRENT, PAGES)
    settle(plain)
    s3.place(CURRENT + "a", b"a file")
    s3.place(CURRENT + name, b"x")
    with pytest.raises(UnsafePath):
        settle(plain)
    assert plain.live == PAGES


def test_folder_keys_of_the_console_are_skipped(plain: Agent, s3: MemoryBucket) -> None:
    push(s3, CURRENT, PAGES)
    s3.place(CURRENT, b"")
    s3.place(CURRENT + "about/", b"")
    settle(plain)
    assert plain.live == PAGES


def test_a_pointer_takes_over_from_bare_files(plain: Agent, s3: MemoryBucket) -> None:
    push(s3, CURRENT, PAGES)
    settle(plain)
    publisher = Publisher(s3)
    publisher.publish("v2", MORE)
    publisher.promote("v2")
    plain.tick()
    assert plain.live == MORE
    s3.requests.clear()
    plain.tick()
    assert s3.requests == [("get_if_changed", SITE.pointer)]


def test_with_source_plain_a_pointer_is_ignored(tmp_path: Path) -> None:
    agent = Agent(tmp_path, source="plain")
    assert isinstance(agent.bucket, MemoryBucket)
    push(agent.bucket, CURRENT, PAGES)
    publisher = Publisher(agent.bucket)
    publisher.publish("v2", MORE)
    publisher.promote("v2")
    # The release that was published is one that `current/` has to equal.
    push(agent.bucket, CURRENT, MORE)
    settle(agent)
    assert agent.live == MORE
    assert agent.bucket.count("get_if_changed") == 0
    agent.stop()


def test_a_restart_with_its_state_lost_downloads_nothing(plain: Agent, s3: MemoryBucket) -> None:
    push(s3, CURRENT, PAGES)
    settle(plain)
    plain.settings.state.state.unlink()
    plain.restart()
    s3.requests.clear()
    settle(plain)
    assert plain.live == PAGES
    assert s3.count("open") == 0


def test_a_deleted_tree_is_fetched_again(plain: Agent, s3: MemoryBucket) -> None:
    push(s3, CURRENT, PAGES)
    settle(plain)
    live = plain.webroot.live()
    assert live is not None
    plain.webroot.delete_tree(live)
    settle(plain)
    assert plain.live == PAGES


def test_a_marker_speaks_for_the_tree_it_was_written_for_and_no_other(plain: Agent, s3: MemoryBucket) -> None:
    push(s3, CURRENT, MORE)
    s3.place(SITE.complete_marker, b"")
    plain.tick()
    plain.clock.advance(3600)
    for number in range(8):  # deletions leave no time behind: the marker is as new as every file still
        del s3.objects[CURRENT + f"blog/{number}/index.html"]
        plain.tick()
    assert plain.live == MORE
    assert "shrank from" in settle(plain).held
    s3.place(SITE.complete_marker, b"")
    plain.tick()
    assert plain.live == PAGES


def test_an_old_marker_stays_used_after_a_tree_that_settled_without_it(
    plain: Agent, s3: MemoryBucket
) -> None:
    push(s3, CURRENT, MORE)
    s3.place(SITE.complete_marker, b"")
    plain.tick()
    plain.clock.advance(3600)
    del s3.objects[CURRENT + "logo.png"]
    settle(plain)
    without_logo = plain.live
    assert "logo.png" not in without_logo
    del s3.objects[CURRENT + "about/index.html"]
    assert plain.tick().look_again is not None
    assert plain.live == without_logo


def test_a_tree_that_was_undone_in_between_has_to_settle_anew(plain: Agent, s3: MemoryBucket) -> None:
    push(s3, CURRENT, PAGES)
    settle(plain)
    plain.clock.advance(3600)
    logo = s3.objects.pop(CURRENT + "logo.png")
    assert plain.tick().look_again is not None
    s3.objects[CURRENT + "logo.png"] = logo
    plain.tick()
    plain.clock.advance(3600)
    del s3.objects[CURRENT + "logo.png"]
    assert plain.tick().look_again == plain.settings.plain_settle
    assert plain.live == PAGES


def test_a_plain_site_that_fails_is_listed_no_more_often_than_one_that_does_not(
    plain: Agent, s3: MemoryBucket
) -> None:
    push(s3, CURRENT, PAGES)
    plain.attempt()
    plain.clock.advance(60)
    plain.attempt()
    s3.place(CURRENT + "back\\slash", b"x")
    attempt = plain.attempt()
    assert isinstance(attempt.error, UnsafePath)
    assert attempt.next_in >= plain.settings.plain_interval * 0.9
