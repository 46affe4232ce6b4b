from __future__ import annotations

import json
import os
import signal

import pytest

from s3sync_agent.cli.fleet_options import Duration
from s3sync_agent.errors import StoreUnavailable
from s3sync_agent.heartbeat import STOPPED, Heartbeat, Trouble, encode_heartbeat
from s3sync_agent.pointer import format_time
from tests.fakes import MemoryBucket
from tests.instances import FakeFleet, VirtualClock
from tests.releases import NOON, PAGES, SITE, place_release
from tests.unit.cli.conftest import Run


@pytest.fixture
def fleet(bucket: MemoryBucket, clock: VirtualClock, s3sync: Run) -> FakeFleet:
    """Three instances that serve v1; v2 is published."""
    for version in ("v1", "v2"):
        place_release(bucket, version, PAGES | {"index.html": version.encode()})
    assert s3sync("promote", "v1").exit_code == 0
    fleet = FakeFleet(bucket, clock)
    for number in range(1, 4):
        fleet.add(f"ROLE:i-{number}", instance_id=f"i-{number}")
    fleet.settle()
    return fleet


def place(bucket: MemoryBucket, identity: str, *, age: float = 0.0, **fields: object) -> None:
    described = {"site": SITE.url, "identity": identity, "version": "0.2.0", "state": "steady"} | fields
    beat = Heartbeat(**described)  # type: ignore[arg-type]  # as the test names them
    bucket.place(SITE.heartbeat(identity), encode_heartbeat(beat), last_modified=NOON - age)


# ------------------------------------------------------------------------------- fleet


def test_the_table_says_what_each_serves_wants_and_why_not(s3sync: Run, bucket: MemoryBucket) -> None:
    place(
        bucket,
        "ROLE:i-1",
        instance_id="i-1",
        zone="eu-central-1a",
        serving="v1-0123456789ab",
        wanted="v2-0123456789ab",
        activated_at=format_time(NOON - 7200),
        behind_seconds=12.0,
        state="staging",
        because="full disk",
        age=4,
    )
    place(bucket, "web2", serving="v2-0123456789ab", wanted="v2-0123456789ab", canary=True, stale=True)
    result = s3sync("fleet")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "INSTANCE  ZONE           STATE                  SERVING  SINCE  WANTED  BEHIND  SEEN  BECAUSE",
        "i-1       eu-central-1a  staging                v1         2 h  v2        12 s   4 s  full disk",
        "web2                     steady, stale, canary  v2                               0 s",
        "2 instances: 1 serves v1, 1 serves v2; cannot reach S3: web2",
    ]


def test_silent_stopped_and_unreadable_ones_are_named(s3sync: Run, bucket: MemoryBucket) -> None:
    place(bucket, "i-1", serving="v1-0123456789ab", age=240)
    place(bucket, "i-2", serving="v1-0123456789ab", state=STOPPED, age=9000)
    bucket.place(SITE.heartbeat("i-3\x1b[2J"), b"rubbish")
    shown = s3sync("fleet").stdout
    assert "silent (was steady)" in shown
    assert "unreadable" in shown
    assert "\x1b" not in shown
    assert shown.splitlines()[-1] == (
        "3 instances: 2 serve v1; silent: i-1; stopped: i-2; unreadable: i-3\\x1b[2J"
    )


def test_json_is_one_object_an_instance_and_a_silent_one_is_stale(s3sync: Run, bucket: MemoryBucket) -> None:
    trouble = Trouble(error="StoreUnavailable", message="timed out")
    place(bucket, "i-1", serving="v1-0123456789ab", problem=trouble, age=179)
    place(bucket, "i-2", age=181)
    bucket.place(SITE.heartbeat("i-3"), b"rubbish", last_modified=NOON - 10)
    first, second, third = json.loads(s3sync("fleet", "--json").stdout)
    assert (first["identity"], first["stale"], first["silent"]) == ("i-1", False, False)
    assert first["problem"]["error"] == "StoreUnavailable"
    assert first["seen_at"] == format_time(NOON - 179)
    assert first["seen_seconds_ago"] == 179
    assert (second["identity"], second["stale"], second["silent"]) == ("i-2", True, True)
    assert (third["identity"], third["state"], third["stale"]) == ("i-3", "unreadable", True)


def test_no_heartbeats_are_no_error(s3sync: Run) -> None:
    assert s3sync("fleet").stdout == "no instance writes heartbeats\n"
    assert json.loads(s3sync("fleet", "--json").stdout) == []


def test_would_names_who_takes_a_share(s3sync: Run, fleet: FakeFleet) -> None:
    fleet.instances[1].canary = True
    fleet.clock.sleep(10)
    assert s3sync("fleet", "--would", "100%").stdout.splitlines()[-1] == (
        "at 100 % these take v1: i-1, i-2 (canary), i-3"
    )
    assert "i-2 (canary)" in s3sync("fleet", "--would", "1").stdout.splitlines()[-1]
    documents = json.loads(s3sync("fleet", "--would", "1", "--json").stdout)
    assert {one["identity"]: one["takes"] for one in documents}["ROLE:i-2"]
    assert s3sync("fleet", "--would", "0%").exit_code == 2


# ------------------------------------------------------------------------------ status


def test_status_ends_with_the_fleet_in_a_sentence(s3sync: Run, fleet: FakeFleet) -> None:
    assert s3sync("status").stdout.splitlines()[-1] == "fleet       3 instances: 3 serve v1"


def test_status_says_what_is_frozen_and_prepared(s3sync: Run, fleet: FakeFleet) -> None:
    fleet.instances[0].lacks_room_for = {"v2"}
    assert s3sync("promote", "v2", "--on-failure", "hold").exit_code == 6
    assert s3sync("freeze", "too many visitors").exit_code == 0
    shown = s3sync("status").stdout
    assert "prepare     v2, being staged everywhere" in shown
    assert ": too many visitors" in shown


# -------------------------------------------------------------- promote, abort, freeze


def test_a_promotion_in_ci_is_a_line_for_each_change_and_figures_at_the_end(
    s3sync: Run, fleet: FakeFleet
) -> None:
    result = s3sync("promote", "v2")
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert lines[0].startswith("prepared v2 (sequence ")
    assert lines.count("staging v2: i-1 ready: staged") == 1
    assert lines.count("activating v2: i-1 ready: serves it") == 1
    assert any(line.startswith("v2 goes live at 2027-") for line in lines)
    first, second = result.stdout.splitlines()
    assert first.startswith("promoted v2, after v1 (sequence ")
    assert second.startswith("3 instances serve v2 ")
    assert "staged in 2.0 s (median), 2.0 s (longest), swapped within " in second


def test_what_the_fleet_refuses_ends_with_6_and_leaves_what_is_live(
    s3sync: Run, bucket: MemoryBucket, fleet: FakeFleet
) -> None:
    fleet.instances[0].lacks_room_for = {"v2"}
    result = s3sync("promote", "v2")
    assert result.exit_code == 6
    assert result.stderr.endswith(
        "error: v2 was not promoted: i-1 could not stage it: DiskFull: needs 3 GiB, has 1 GiB\n"
        "  v2 is not prepared any more; nothing that is served has changed\n"
        "hint: i-1: make room\n"
    )
    assert set(fleet.serving().values()) == {"v1"}
    assert bucket.objects[SITE.current + "index.html"].body == b"v1"


def test_abort_takes_back_what_is_prepared_and_then_has_nothing_to_do(s3sync: Run, fleet: FakeFleet) -> None:
    fleet.instances[0].lacks_room_for = {"v2"}
    s3sync("promote", "v2", "--on-failure", "hold")
    assert s3sync("abort").stdout == "v2 is not prepared any more; nothing that is served has changed\n"
    again = s3sync("abort")
    assert again.exit_code == 4
    assert "nothing is under way: everyone is meant to serve v1 by " in again.stderr
    assert "hint: `s3sync rollback` goes back" in again.stderr


def test_frozen_promotions_are_refused_and_a_rollback_needs_force(s3sync: Run, fleet: FakeFleet) -> None:
    assert s3sync("promote", "v2").exit_code == 0
    assert s3sync("freeze", "").exit_code == 2
    assert s3sync("freeze", "the shop is full").exit_code == 0
    assert s3sync("freeze", "another reason").exit_code == 4
    for command in (["promote", "v1"], ["promote", "v1", "--now", "--force"], ["rollback"]):
        refused = s3sync(*command)
        assert refused.exit_code == 4
        assert "the shop is full" in refused.stderr
    assert s3sync("rollback", "--force").exit_code == 0
    assert "the shop is full" in s3sync("unfreeze").stdout
    assert s3sync("unfreeze").stdout == "promotions are not frozen\n"


def test_a_rollback_that_an_instance_cannot_follow_ends_with_6_and_stays(
    s3sync: Run, fleet: FakeFleet
) -> None:
    assert s3sync("promote", "v2").exit_code == 0
    fleet.instances[2].refuses = {"v1"}
    result = s3sync("rollback")
    assert result.exit_code == 6
    assert "v1 does not work: i-3 denied it: GET / answered 500\n  the pointer stays" in result.stderr
    assert "wanted      v1" in s3sync("status").stdout


def test_promote_now_watches_too_and_takes_back_what_is_denied(s3sync: Run, fleet: FakeFleet) -> None:
    fleet.instances[2].refuses = {"v2"}
    result = s3sync("promote", "v2", "--now")
    assert result.exit_code == 6
    assert "the pointer is back at v1" in result.stderr


def test_a_cancelled_ci_job_says_how_to_go_on(s3sync: Run, clock: VirtualClock, fleet: FakeFleet) -> None:
    fleet.instances[0].stages_in = 100.0

    def cancel(now: float) -> None:
        clock.passing.remove(cancel)
        os.kill(os.getpid(), signal.SIGTERM)

    clock.passing.append(cancel)
    result = s3sync("promote", "v2")
    assert result.exit_code == 130
    assert "v2 stays prepared and nothing that is served has changed: `s3sync promote v2`" in result.stderr
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    fleet.instances[0].stages_in = 1.0
    assert s3sync("promote", "v2").exit_code == 0


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("1h", 3600), ("90", 90), ("1.5s", 1.5)]
)
def test_durations_are_written_with_their_unit(text: str, seconds: float) -> None:
    assert Duration()(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1s", "5 minutes", "1d"])
def test_what_is_no_duration_is_wrong_usage(s3sync: Run, text: str, bucket: MemoryBucket) -> None:
    assert s3sync("promote", "v1", "--timeout", text).exit_code == 2
    assert bucket.requests == []


# ------------------------------------------------------------------------------ canary


def test_a_canary_says_who_tries_it_and_then_goes_to_everyone(s3sync: Run, fleet: FakeFleet) -> None:
    result = s3sync("promote", "v2", "--canary", "10%", "--bake", "30s")
    assert result.exit_code == 0
    assert " % at 2027-" in result.stderr
    assert result.stdout.splitlines()[1].startswith("3 instances serve v2 ")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--canary", "10%", "--steps", "10,100"], "give one of them"),
        (["--bake", "5m"], "give --canary or --steps too"),
        (["--now", "--canary", "10"], "nobody to try it first"),
        (["--steps", "50,10"], "does not grow from step to step"),
        (["--steps", "10,,100"], "is no share such as 10%"),
        (["--canary", "101"], "is no share such as 10%"),
    ],
)
def test_steps_that_make_no_sense_are_wrong_usage(
    s3sync: Run, bucket: MemoryBucket, options: list[str], told: str
) -> None:
    result = s3sync("promote", "v2", *options)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())
    assert bucket.requests == []


# ----------------------------------------------------------------------------- watching


def test_watch_shows_it_again_and_again_also_after_an_outage(
    s3sync: Run, bucket: MemoryBucket, clock: VirtualClock, fleet: FakeFleet
) -> None:
    looks = 0

    def later(now: float) -> None:
        nonlocal looks
        looks += 1
        bucket.outage = StoreUnavailable("timed out") if looks < 15 else None
        if looks > 40:
            raise KeyboardInterrupt

    clock.passing.append(later)
    result = s3sync("fleet", "--watch")
    assert result.exit_code == 130
    assert result.stdout.count("3 instances: 3 serve v1") >= 3
    assert "warning: timed out; trying again" in result.stderr


def test_an_instance_to_ignore_that_is_none_is_told(s3sync: Run, fleet: FakeFleet) -> None:
    result = s3sync("promote", "v2", "--ignore", "i-3", "--ignore", "i-33")
    assert result.exit_code == 0
    assert "--ignore i-33: there is no instance of that name" in result.stderr
    assert "--ignore i-3:" not in result.stderr


def test_promote_now_and_rollback_say_when_it_goes_live(s3sync: Run, fleet: FakeFleet) -> None:
    assert "v2 goes live at 2027-" in s3sync("promote", "v2", "--now").stderr
    assert "v1 goes live at 2027-" in s3sync("rollback").stderr


def test_an_abort_of_what_was_active_brings_current_back(
    s3sync: Run, bucket: MemoryBucket, clock: VirtualClock, fleet: FakeFleet
) -> None:
    assert s3sync("promote", "v2").exit_code == 0
    assert bucket.objects[SITE.current + "index.html"].body == b"v2"
    fleet.instances[0].denied[fleet.instances[0].promotion_id] = "GET / answered 500"
    clock.sleep(1)
    result = s3sync("abort")
    assert result.exit_code == 0
    assert result.stdout.startswith("the pointer is back at v1")
    assert bucket.objects[SITE.current + "index.html"].body == b"v1"


def test_current_shows_what_is_active_also_when_the_fleet_did_not_take_it(
    s3sync: Run, bucket: MemoryBucket, clock: VirtualClock, fleet: FakeFleet
) -> None:
    def in_current() -> bytes:
        return bucket.objects[SITE.current + "index.html"].body

    def cut(now: float) -> None:
        fleet.instances[0].mute = b'"active":{"version":"v2"' in bucket.objects[SITE.pointer].body

    clock.passing.append(cut)
    left = s3sync("promote", "v2")  # silence: it stays
    assert left.exit_code == 6
    assert in_current() == b"v2"
    bucket.place(SITE.current + "index.html", b"v1")  # as if the first one had been killed before
    clock.sleep(200)
    assert s3sync("promote", "v2").exit_code == 6
    assert in_current() == b"v2"
    clock.passing.remove(cut)
    fleet.instances[0].mute = False
    fleet.instances[1].refuses = {"v2"}  # and a second look finds it wrong
    fleet.instances[1].denied[fleet.instances[1].promotion_id] = "GET / answered 500"
    clock.sleep(1)
    assert s3sync("promote", "v2").exit_code == 6
    assert b'"active":{"version":"v1"' in bucket.objects[SITE.pointer].body
    assert in_current() == b"v1"


def test_current_is_left_alone_when_nothing_went_live(
    s3sync: Run, bucket: MemoryBucket, fleet: FakeFleet
) -> None:
    fleet.instances[0].lacks_room_for = {"v2"}
    bucket.requests.clear()
    result = s3sync("promote", "v2")
    assert result.exit_code == 6
    assert "current/" not in result.stderr
    assert bucket.count("copy") == 0


def test_a_rollback_that_one_cannot_follow_brings_current_back_too(
    s3sync: Run, bucket: MemoryBucket, clock: VirtualClock, fleet: FakeFleet
) -> None:
    assert s3sync("promote", "v2").exit_code == 0
    fleet.instances[0].stop(clock.now())
    result = s3sync("rollback")
    assert result.exit_code == 6
    assert bucket.objects[SITE.current + "index.html"].body == b"v1"


def test_figures_are_about_what_this_command_did(s3sync: Run, clock: VirtualClock, fleet: FakeFleet) -> None:
    assert ": staged in 2.0 s (median)" in s3sync("promote", "v2").stdout
    clock.sleep(100)
    fleet.instances[0].activated_at = clock.now()  # it was replaced since
    again = s3sync("promote", "v2").stdout.splitlines()
    assert again[1] == "3 instances serve v2"
    back = s3sync("rollback").stdout  # from the disks: nothing was staged
    assert "3 instances serve v1 " in back
    assert "staged in" not in back
    assert "swapped within" in back
