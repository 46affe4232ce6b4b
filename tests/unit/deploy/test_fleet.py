from __future__ import annotations

import pytest

from s3sync_agent.deploy import fleet as fleet_module
from s3sync_agent.deploy.fleet import FleetReader
from s3sync_agent.errors import FleetError, StoreDenied, StoreUnavailable
from s3sync_agent.heartbeat import MAX_HEARTBEAT_BYTES, STOPPED, Heartbeat, encode_heartbeat
from tests.fakes import MemoryBucket
from tests.releases import NOON, SITE


@pytest.fixture
def bucket() -> MemoryBucket:
    return MemoryBucket(clock=lambda: NOON)


def beat(identity: str, *, state: str = "steady", interval: float = 60.0, site: str = SITE.url) -> bytes:
    return encode_heartbeat(
        Heartbeat(
            site=site,
            identity=identity,
            version="0.2.0",
            state=state,
            heartbeat_interval=interval,
            serving="v1",
        )
    )


def test_a_look_reads_every_heartbeat_and_the_next_one_what_changed(bucket: MemoryBucket) -> None:
    for identity in ("i-2", "i-1", "ROLE:i-3"):
        bucket.place(SITE.heartbeat(identity), beat(identity), last_modified=NOON - 5)
    reader = FleetReader(bucket, SITE)
    first = reader.look()
    assert [each.beat.identity for each in first.sightings] == ["ROLE:i-3", "i-1", "i-2"]
    assert (first.now, first.sightings[0].written_at) == (NOON, NOON - 5)
    assert (bucket.count("list"), bucket.count("get")) == (1, 3)
    assert reader.look() == first
    assert (bucket.count("list"), bucket.count("get")) == (2, 3)
    bucket.place(SITE.heartbeat("i-1"), beat("i-1", state="staged"))
    assert [each.beat.state for each in reader.look().sightings] == ["steady", "staged", "steady"]
    assert (bucket.count("list"), bucket.count("get")) == (3, 4)


def test_one_that_is_written_again_with_the_same_bytes_is_fresh_without_a_get(bucket: MemoryBucket) -> None:
    bucket.place(SITE.heartbeat("i-1"), beat("i-1"), last_modified=NOON - 500)
    reader = FleetReader(bucket, SITE)
    assert reader.look().fresh() == []
    bucket.place(SITE.heartbeat("i-1"), beat("i-1"), last_modified=NOON)
    assert len(reader.look().fresh()) == 1
    assert bucket.count("get") == 1


def test_a_heartbeat_that_is_deleted_is_forgotten_also_between_listing_and_get(bucket: MemoryBucket) -> None:
    for identity in ("i-1", "i-2"):
        bucket.place(SITE.heartbeat(identity), beat(identity))
    reader = FleetReader(bucket, SITE)
    reader.look()
    del bucket.objects[SITE.heartbeat("i-1")]
    bucket.place(SITE.heartbeat("i-2"), beat("i-2", state="staged"))

    def terminate(operation: str, key: str) -> None:
        if operation == "get":
            bucket.objects.pop(SITE.heartbeat("i-2"), None)

    bucket.before = terminate
    assert not reader.look()


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"not json", "it cannot be read"),
        (beat("i-other"), "it speaks for 'i-other'"),
        (beat("i-bad", site="s3://bucket/staging"), "it is of the site s3://bucket/staging"),
        (b"x" * (MAX_HEARTBEAT_BYTES + 1), "the limit is 16384"),
        (b"\x1b[2J", "it cannot be read"),
    ],
)
def test_one_that_cannot_be_read_is_named_and_hides_nobody(
    bucket: MemoryBucket, body: bytes, fault: str
) -> None:
    bucket.place(SITE.heartbeat("i-bad"), body, last_modified=NOON - 7)
    bucket.place(SITE.heartbeat("i-good"), beat("i-good"))
    reader = FleetReader(bucket, SITE)
    for _ in range(2):
        found = reader.look()
        assert [each.beat.identity for each in found.sightings] == ["i-good"]
        (bad,) = found.unreadable
        assert (bad.identity, bad.written_at) == ("i-bad", NOON - 7)
        assert fault in bad.fault
        assert bad.fault.isprintable()
    assert bucket.count("get") <= 2  # what cannot be read is not read again


def test_what_is_in_no_heartbeats_place_is_none(bucket: MemoryBucket) -> None:
    for name in ("", "README", "old/i-1.json"):
        bucket.place(SITE.fleet + name, b"")
    assert not FleetReader(bucket, SITE).look()
    assert bucket.count("get") == 0


def test_silence_begins_after_three_missed_heartbeats_and_a_stop_is_none(bucket: MemoryBucket) -> None:
    bucket.place(SITE.heartbeat("i-1"), beat("i-1"), last_modified=NOON - 180)
    bucket.place(SITE.heartbeat("i-2"), beat("i-2"), last_modified=NOON - 181)
    bucket.place(SITE.heartbeat("i-3"), beat("i-3", interval=10), last_modified=NOON - 31)
    bucket.place(SITE.heartbeat("i-4"), beat("i-4", state=STOPPED), last_modified=NOON - 9999)
    found = FleetReader(bucket, SITE).look()
    assert [found.silent(each) for each in found.sightings] == [False, True, True, False]
    assert [each.beat.identity for each in found.fresh()] == ["i-1"]


def test_a_fleet_that_could_not_be_asked_is_no_empty_fleet(bucket: MemoryBucket) -> None:
    bucket.place(SITE.heartbeat("i-1"), beat("i-1"))
    reader = FleetReader(bucket, SITE)
    bucket.fail_next("list", StoreDenied("no"))
    with pytest.raises(StoreDenied):
        reader.look()
    bucket.fail_next("get", StoreUnavailable("timed out"))
    with pytest.raises(StoreUnavailable):
        reader.look()
    assert len(reader.look().sightings) == 1


def test_more_heartbeats_than_any_fleet_has_are_refused(
    bucket: MemoryBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "LARGEST_FLEET", 3)
    for number in range(4):
        bucket.place(SITE.heartbeat(f"i-{number}"), beat(f"i-{number}"))
    with pytest.raises(FleetError, match="more than 3 objects"):
        FleetReader(bucket, SITE).look()
    assert bucket.count("get") == 0
