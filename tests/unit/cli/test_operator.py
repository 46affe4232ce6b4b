from __future__ import annotations

import hashlib
import json
import re
from functools import partial
from pathlib import Path

import pytest

from s3sync_agent.deploy.bundle import make_bundle
from s3sync_agent.errors import StoreUnavailable
from s3sync_agent.heartbeat import Heartbeat, encode_heartbeat
from tests.fakes import MemoryBucket
from tests.releases import NOON, PAGES, SITE, place_release
from tests.unit.cli.conftest import Run
from tests.unit.deploy.wheel_files import Index, agent_wheel, wheel


@pytest.fixture
def live(bucket: MemoryBucket, s3sync: Run) -> None:
    """v1, v2 and v3 were published and promoted, an hour apart."""
    for count in range(1, 4):
        version = f"v{count}"
        place_release(bucket, version, PAGES | {"index.html": version.encode()}, at=NOON - 3600 * (4 - count))
        assert s3sync("promote", version, "--now", "--reason", f"reason {count}").exit_code == 0


# -------------------------------------------------------------------------- which site


def test_the_site_is_given_by_option_or_environment(s3sync: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert s3sync("status").exit_code == 0
    assert s3sync("status", "--site", "s3://bucket/other").stdout == (
        "there is no pointer in s3://bucket/other: nothing was promoted yet, or it was removed\n"
    )
    monkeypatch.delenv("S3SYNC_SITE")
    missing = s3sync("status")
    assert missing.exit_code == 2
    assert "S3SYNC_SITE" in missing.stderr


def test_a_site_that_is_none_is_wrong_usage(s3sync: Run) -> None:
    result = s3sync("status", "--site", "https://bucket/site")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: site 'https://bucket/site' is not s3://bucket[/prefix]\nhint: ")


@pytest.mark.parametrize("command", ["promote", "rollback", "verify"])
def test_a_version_that_cannot_be_is_wrong_usage(s3sync: Run, bucket: MemoryBucket, command: str) -> None:
    assert s3sync(command, "../v1").exit_code == 2
    assert bucket.requests == []


# --------------------------------------------------------------------- check, publish


def test_check_lists_every_finding_and_fails_on_errors(s3sync: Run, folder: Path) -> None:
    assert s3sync("check", str(folder)).exit_code == 0
    (folder / "index.html").rename(folder / "start.html")
    result = s3sync("check", str(folder))
    assert result.exit_code == 4
    assert "index.html: error: " in result.stdout
    assert "1 error and 0 warnings in 4 files" in result.stderr


def test_check_fails_on_warnings_only_when_told_to(s3sync: Run, folder: Path) -> None:
    (folder / "page.html").write_text('<a href="nowhere.html">')
    assert s3sync("check", str(folder)).exit_code == 0
    assert s3sync("check", str(folder), "--strict").exit_code == 4
    findings = json.loads(s3sync("check", str(folder), "--json").stdout)
    assert findings["files"] == 5
    assert [finding["severity"] for finding in findings["findings"]] == ["warning"]


def test_publish_prints_the_version_alone_on_stdout(s3sync: Run, bucket: MemoryBucket, folder: Path) -> None:
    result = s3sync("publish", str(folder))
    assert result.exit_code == 0
    version = result.stdout.removesuffix("\n")
    assert re.fullmatch(r"\d{8}T\d{6}Z(-[0-9a-f]{7})?", version)
    assert SITE.manifest(version) in bucket.objects
    assert f"publishing {folder} as {version}\n" in result.stderr
    assert "uploading " in result.stderr


def test_publish_takes_commit_and_run_from_github(
    s3sync: Run, bucket: MemoryBucket, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_SHA", "0123456789abcdef0123456789abcdef01234567")
    version = s3sync("publish", str(folder)).stdout.strip()
    assert version.endswith("Z-0123456")
    assert json.loads(s3sync("releases", "--json").stdout)[0]["commit"].startswith("0123456")


def test_publishing_the_same_again_says_so_and_is_a_success(s3sync: Run, folder: Path) -> None:
    first = s3sync("publish", str(folder), "--version", "v1")
    again = s3sync("publish", str(folder), "--version", "v1")
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert first.stdout == again.stdout == "v1\n"
    assert "was there already, with the same content" in again.stderr


def test_publishing_other_content_under_a_version_is_refused(s3sync: Run, folder: Path) -> None:
    s3sync("publish", str(folder), "--version", "v1")
    (folder / "index.html").write_text("other")
    result = s3sync("publish", str(folder), "--version", "v1")
    assert (result.exit_code, result.stdout) == (4, "")


def test_publish_without_files_uploads_the_pack_alone(
    s3sync: Run, bucket: MemoryBucket, folder: Path
) -> None:
    s3sync("publish", str(folder), "--version", "v1", "--no-files")
    assert all("/.s3sync/" in key for key in bucket.objects)


def test_publish_passes_the_globs_on(s3sync: Run, bucket: MemoryBucket, folder: Path) -> None:
    s3sync("publish", str(folder), "--version", "v1", "--immutable", "*.png", "--mutable", "assets/*")
    files = json.loads(bucket.objects[SITE.manifest("v1")].body)["files"]
    assert [file["path"] for file in files if file["immutable"]] == ["logo.png"]


# ------------------------------------------------------------------- promote, rollback


def test_promote_moves_the_pointer_and_the_mirror(
    s3sync: Run, bucket: MemoryBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTOR", "octocat")
    place_release(bucket, "v1")
    result = s3sync("promote", "v1", "--now", "--reason", "first")
    assert result.exit_code == 0
    assert result.stdout == f"promoted v1 (sequence {int(NOON)})\n"
    assert result.stderr == "current/ shows it: 4 objects copied, 0 deleted\n"
    assert bucket.objects[SITE.current + "index.html"].body == PAGES["index.html"]
    (entry,) = json.loads(s3sync("history", "--json").stdout)
    assert (entry["version"], entry["by"], entry["reason"]) == ("v1", "octocat", "first")


def test_who_promotes_by_hand_is_user_at_host(s3sync: Run, bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    s3sync("promote", "v1", "--now")
    (entry,) = json.loads(s3sync("history", "--json").stdout)
    assert re.fullmatch(r".+@.+", entry["by"])


def test_every_promotion_has_an_id_of_its_own(s3sync: Run, live: None) -> None:
    entries = json.loads(s3sync("history", "--json").stdout)
    assert len({entry["promotion_id"] for entry in entries}) == 3


def test_a_first_promotion_needs_no_now_and_every_other_one_a_fleet(
    s3sync: Run, bucket: MemoryBucket
) -> None:
    place_release(bucket, "v1")
    place_release(bucket, "v2")
    assert s3sync("promote", "v1").exit_code == 0
    result = s3sync("promote", "v2")
    assert result.exit_code == 6
    assert "`s3sync promote v2 --now` does without" in result.stderr


def test_promote_without_mirror_leaves_current_alone(s3sync: Run, bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    s3sync("promote", "v1", "--now", "--no-mirror")
    assert SITE.current + "index.html" not in bucket.objects
    assert SITE.pointer in bucket.objects


def test_a_release_without_browsable_files_is_promoted_and_the_mirror_left(
    s3sync: Run, bucket: MemoryBucket
) -> None:
    place_release(bucket, "v1", browsable=False)
    result = s3sync("promote", "v1", "--now")
    assert result.exit_code == 0
    assert "current/ was left as it is" in result.stderr


def test_a_mirror_that_fails_is_told_but_undoes_no_promotion(s3sync: Run, bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    bucket.fail_next("copy", StoreUnavailable("timed out"))
    result = s3sync("promote", "v1", "--now")
    assert result.exit_code == 3
    assert result.stdout.startswith("promoted v1 ")
    assert "error: v1 is promoted, but current/ was not brought up to date: timed out" in result.stderr
    assert "`s3sync promote v1` tries the mirror again" in result.stderr
    again = s3sync("promote", "v1", "--now")
    assert (again.exit_code, bucket.objects[SITE.current + "index.html"].body) == (0, PAGES["index.html"])


def test_forcing_says_what_it_went_over(s3sync: Run, bucket: MemoryBucket) -> None:
    bucket.place(SITE.pointer, b"garbage")
    place_release(bucket, "v1")
    assert s3sync("promote", "v1", "--now").exit_code == 4
    result = s3sync("promote", "v1", "--now", "--force")
    assert result.exit_code == 0
    assert "warning: forced: the pointer cannot be used" in result.stderr


def test_a_promotion_ahead_of_the_fleet_says_when_it_will_be_live(s3sync: Run, bucket: MemoryBucket) -> None:
    place_release(bucket, "v1")
    place_release(bucket, "v2", PAGES | {"new.html": b"new"})
    s3sync("promote", "v1", "--now")
    for identity in ("i-1", "i-2"):
        waiting = Heartbeat(site=SITE.url, identity=identity, version="1.0", state="waiting")
        bucket.place(SITE.heartbeat(identity), encode_heartbeat(waiting), last_modified=NOON)
    assert ", live at 2027-01-15T08:00:10.000Z)" in s3sync("promote", "v2", "--now").stdout


def test_losing_the_race_ends_with_5_and_the_winner(s3sync: Run, bucket: MemoryBucket, live: None) -> None:
    def overtake(operation: str, key: str) -> None:
        if operation == "put":
            bucket.before = None
            assert s3sync("rollback").exit_code == 0

    bucket.before = overtake
    result = s3sync("promote", "v1", "--now")
    assert result.exit_code == 5
    assert "error: v1 was not promoted: the pointer is at v2 by " in result.stderr


def test_rollback_says_what_it_does_and_goes_further_back_each_time(
    s3sync: Run, bucket: MemoryBucket, live: None
) -> None:
    result = s3sync("rollback")
    assert result.exit_code == 0
    assert "rolling back from v3 by " in result.stderr
    assert result.stdout.startswith("promoted v2, after v3 (sequence ")
    assert bucket.objects[SITE.current + "index.html"].body == b"v2"
    assert s3sync("rollback").stdout.startswith("promoted v1, after v2 ")
    assert s3sync("rollback").exit_code == 4


def test_the_usage_says_that_rollback_needs_no_version(s3sync: Run) -> None:
    assert "rollback [OPTIONS] [VERSION]\n" in s3sync("rollback", "--help").stdout
    assert "promote [OPTIONS] VERSION\n" in s3sync("promote", "--help").stdout


def test_rollback_to_a_named_release_when_the_active_one_is_gone(
    s3sync: Run, bucket: MemoryBucket, live: None
) -> None:
    bucket.delete([key for key in bucket.objects if key.startswith(SITE.release("v3"))])
    assert s3sync("rollback", "v1").stdout.startswith("promoted v1, after v3 ")
    assert bucket.objects[SITE.current + "index.html"].body == b"v1"


# --------------------------------------------------------------------------- listings


def test_status_says_what_is_wanted_since_when_and_by_whom(s3sync: Run, live: None) -> None:
    lines = dict(line.split(maxsplit=1) for line in s3sync("status").stdout.splitlines())
    assert lines["wanted"] == "v3"
    assert lines["baseline"] == "v2"
    assert lines["reason"] == "reason 3"
    assert lines["since"] == "2027-01-15T08:00:00.000Z (0 s ago)"
    assert lines["sequence"] == str(int(NOON) + 2)


def test_status_as_json_is_the_pointer(s3sync: Run, live: None) -> None:
    pointer = json.loads(s3sync("status", "--json").stdout)
    assert pointer["active"]["version"] == "v3"
    assert pointer["site"] == SITE.url


def test_listings_of_an_empty_site_are_empty_and_no_error(s3sync: Run) -> None:
    assert s3sync("status", "--json").stdout == "null\n"
    for command in ("releases", "history"):
        assert s3sync(command, "--json").stdout == "[]\n"
        assert s3sync(command).exit_code == 0


def test_releases_marks_the_live_one(s3sync: Run, bucket: MemoryBucket, live: None) -> None:
    bucket.place(f"{SITE.releases}old/index.html", b"x", last_modified=NOON - 86400 * 3)
    lines = s3sync("releases").stdout.splitlines()
    assert lines[0].split() == ["VERSION", "AGE", "SIZE", "FILES", "COMMIT", "STATE"]
    assert [line.split() for line in lines[1:]] == [
        ["v3", "1", "h", "577", "B", "4", "1a2b3c4", "active"],
        ["v2", "2", "h", "577", "B", "4", "1a2b3c4", "baseline"],
        ["v1", "3", "h", "577", "B", "4", "1a2b3c4"],
        ["old", "3", "d", "1", "B", "1", "foreign"],
    ]
    found = json.loads(s3sync("releases", "--json").stdout)
    assert [(release["version"], release["role"]) for release in found] == [
        ("v3", "active"),
        ("v2", "baseline"),
        ("v1", ""),
        ("old", ""),
    ]


def test_releases_are_listed_although_the_pointer_is_damaged(
    s3sync: Run, bucket: MemoryBucket, live: None
) -> None:
    bucket.place(SITE.pointer, b"garbage")
    result = s3sync("releases")
    assert result.exit_code == 0
    assert "warning: which release is live cannot be said: pointer cannot be read" in result.stderr
    assert len(result.stdout.splitlines()) == 4
    assert s3sync("status").exit_code == 4


def test_names_from_outside_cannot_move_the_cursor(s3sync: Run, bucket: MemoryBucket) -> None:
    bucket.place(f"{SITE.releases}\x1b[2J/x", b"")
    assert "\x1b" not in s3sync("releases").stdout
    assert "\x1b" not in s3sync("releases", "--json").stdout


def test_history_is_newest_first(s3sync: Run, live: None) -> None:
    lines = s3sync("history").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["VERSION", "v3", "v2", "v1"]
    assert lines[1].endswith("reason 3")


def test_diff_shows_paths_and_sizes(s3sync: Run, bucket: MemoryBucket) -> None:
    place_release(bucket, "v1", {"index.html": b"12", "old": b"1"})
    place_release(bucket, "v2", {"index.html": b"123", "new": b"1"})
    assert s3sync("diff", "v1", "v2").stdout.splitlines() == [
        "+ new  1 B",
        "- old  1 B",
        "~ index.html  2 B → 3 B",
        "1 added, 1 removed, 1 changed, 0 the same",
    ]
    assert json.loads(s3sync("diff", "v1", "v2", "--json").stdout)["changed"] == [
        {"path": "index.html", "old_size": 2, "new_size": 3}
    ]
    assert s3sync("diff", "v1", "v9").exit_code == 4


def test_an_outage_ends_with_3_and_prints_no_listing(s3sync: Run, bucket: MemoryBucket, live: None) -> None:
    bucket.outage = StoreUnavailable("connection refused", hint="is AWS_ENDPOINT_URL right?")
    for command in ("status", "releases", "history", "verify v1", "diff v1 v2", "prune --keep 1", "rollback"):
        result = s3sync(*command.split())
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr == "error: connection refused\nhint: is AWS_ENDPOINT_URL right?\n"


# ---------------------------------------------------------------------- verify, prune


def test_verify_lists_every_fault_and_ends_with_4(s3sync: Run, bucket: MemoryBucket, live: None) -> None:
    good = s3sync("verify", "v1")
    assert good.exit_code == 0
    assert good.stdout.startswith("release v1 is whole: 4 files, pack of ")
    del bucket.objects[SITE.release("v1") + "logo.png"]
    bucket.truncate(SITE.release("v1") + "index.html", 1)
    bad = s3sync("verify", "v1")
    assert bad.exit_code == 4
    assert len(bad.stdout.splitlines()) == 2
    assert "release v1 has 2 faults" in bad.stderr
    as_json = s3sync("verify", "v1", "--json")
    assert as_json.exit_code == 4
    assert len(json.loads(as_json.stdout)["faults"]) == 2


def test_prune_keeps_what_is_needed_and_says_what_goes(s3sync: Run, bucket: MemoryBucket, live: None) -> None:
    would = s3sync("prune", "--keep", "1", "--dry-run")
    assert would.stdout.startswith("would delete v1 (6 objects, ")
    assert [gone["version"] for gone in json.loads(s3sync("prune", "--keep", "1", "--json").stdout)] == ["v1"]
    assert s3sync("prune", "--keep", "1").stdout == "nothing to delete\n"
    assert s3sync("rollback").exit_code == 0


def test_prune_wants_to_know_how_many_to_keep(s3sync: Run) -> None:
    assert s3sync("prune").exit_code == 2
    assert s3sync("prune", "--keep", "0").exit_code == 2


# ------------------------------------------------------------------------------ bundle


def test_bundle_prints_the_file_alone_on_stdout(
    s3sync: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index(wheel("six"), wheel("installer"))
    agent_wheel(tmp_path / "dist", index.lock)
    monkeypatch.setattr(
        "s3sync_agent.deploy.bundle.make_bundle", partial(make_bundle, download=index.download)
    )
    monkeypatch.chdir(tmp_path)
    result = s3sync("bundle", "--arch", "aarch64", "--python", "3.13")
    assert result.exit_code == 0
    assert re.fullmatch(r"dist/s3sync-agent-1\.2\.3-cp313-aarch64-[0-9a-f]{12}\.pyz\n", result.stdout)
    assert "sha256 " in result.stderr
    described = json.loads(s3sync("bundle", "--arch", "aarch64", "--python", "3.13", "--json").stdout)
    assert described["path"] == result.stdout.strip()
    assert described["sha256"][:12] in described["path"]


def test_bundle_without_a_wheel_says_how_to_get_one(
    s3sync: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = s3sync("bundle")
    assert result.exit_code == 2
    assert (
        result.stderr
        == "error: 'dist' holds no wheel of s3sync-agent\nhint: run make dist, or name one with --wheel\n"
    )


# ---------------------------------------------------------------------------- user data


@pytest.fixture
def userdata(s3sync: Run, tmp_path: Path) -> Run:
    content = b"a bundle"
    digest = hashlib.sha256(content).hexdigest()[:12]
    bundle = tmp_path / f"s3sync-agent-0.1.0-cp312-x86_64-{digest}.pyz"
    bundle.write_bytes(content)
    return partial(s3sync, "userdata", "--bundle", str(bundle), "--region", "eu-central-1")


def test_user_data_has_the_settings_and_the_role_that_were_given(userdata: Run) -> None:
    settings = ("--setting", "poll_interval=2", "--setting", "identity=a=b")
    script = userdata(*settings).stdout
    assert 'poll_interval = "2"\nidentity = "a=b"' in script
    assert "AROAEXAMPLE0123456789:$id" in userdata("--role-id", "AROAEXAMPLE0123456789").stdout


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (("poll_interval",), "--setting poll_interval is not NAME=VALUE"),
        (("poll_interval=2", "poll_interval=3"), "--setting poll_interval is given twice"),
        (("pool_interval=2",), "no such setting; did you mean poll_interval?"),
    ],
    ids=["no value", "twice", "unknown"],
)
def test_a_setting_that_is_none_is_wrong_usage(userdata: Run, given: tuple[str, ...], why: str) -> None:
    result = userdata(*(word for each in given for word in ("--setting", each)))
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr
