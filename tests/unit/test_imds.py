"""What EC2's metadata service tells, and what is made of one that does not."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from s3sync_agent.imds import REQUEST_SECONDS, Metadata
from tests.metadata_service import LIFECYCLE, SPOT, Service, metadata_service

SLACK = 0.3


@pytest.fixture
def service() -> Iterator[Service]:
    with metadata_service() as service:
        yield service


# ------------------------------------------------------------------------------- where


def test_an_instance_knows_its_id_and_zone_by_token(service: Service) -> None:
    assert service.metadata.whereabouts() == ("i-0123", "eu-central-1a")
    assert service.asked[0] == "PUT /latest/api/token"


def test_a_zone_that_is_not_told_is_left_out(service: Service) -> None:
    del service.documents["placement/availability-zone"]
    assert service.metadata.whereabouts() == ("i-0123", "")


def test_an_endpoint_may_end_in_a_slash(service: Service) -> None:
    service.endpoint += "/"
    assert service.metadata.whereabouts() == ("i-0123", "eu-central-1a")


def test_elsewhere_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        endpoint = f"http://127.0.0.1:{gone.getsockname()[1]}"
    metadata = Metadata({"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint})
    assert metadata.whereabouts() is None
    assert not metadata.is_terminating()


def test_where_it_is_switched_off_it_is_not_asked(service: Service) -> None:
    metadata = Metadata(
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT": service.endpoint, "AWS_EC2_METADATA_DISABLED": "True"}
    )
    service.documents[LIFECYCLE] = "Terminated"
    assert metadata.whereabouts() is None
    assert not metadata.is_terminating()
    assert service.asked == []


def test_without_a_token_nothing_is_asked(service: Service) -> None:
    service.gives_tokens = False
    assert service.metadata.whereabouts() is None
    assert service.asked == ["PUT /latest/api/token"]


@pytest.mark.parametrize(
    "endpoint", ["http://[", "http://127.0.0.1:99999", "nowhere", "http://127.0.0.1:1/\n"]
)
def test_an_endpoint_that_is_none_is_nobody(endpoint: str) -> None:
    assert Metadata({"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint}).whereabouts() is None


def test_a_service_that_hangs_is_waited_for_in_bounds(service: Service) -> None:
    service.hangs.set()
    service.documents[LIFECYCLE] = "Terminated"
    began = time.monotonic()
    assert service.metadata.whereabouts() is None
    assert time.monotonic() - began < REQUEST_SECONDS + SLACK
    assert not service.metadata.is_terminating()
    assert time.monotonic() - began < 3 * REQUEST_SECONDS + 2 * SLACK


@pytest.mark.parametrize("said", ["i-\n0123", "größe", "x" * 100_000, "i-\x1b[2J"])
def test_what_is_no_name_is_none(service: Service, said: str) -> None:
    service.documents["instance-id"] = said
    assert service.metadata.whereabouts() is None


# ------------------------------------------------------------------------- terminating


@pytest.mark.parametrize("state", [None, "InService", "Standby", "Warmed:Stopped", "Detached", ""])
def test_an_instance_that_stays_is_not_terminating(service: Service, state: str | None) -> None:
    if state is not None:
        service.documents[LIFECYCLE] = state
    assert not service.metadata.is_terminating()


def test_one_that_its_group_ends_is(service: Service) -> None:
    service.documents[LIFECYCLE] = "Terminated"
    assert service.metadata.is_terminating()


@pytest.mark.parametrize(
    ("notice", "is_terminating"),
    [
        ('{"action": "terminate", "time": "2026-11-24T08:22:00Z"}', True),
        ('{"action": "stop", "time": "2026-11-24T08:22:00Z"}', False),
        ('{"action": "hibernate"}', False),
        ('"terminate"', False),
        ("{", False),
        ("[" * 4000, False),
    ],
)
def test_a_spot_instance_is_when_its_notice_says_so(
    service: Service, notice: str, is_terminating: bool
) -> None:
    service.documents |= {LIFECYCLE: "InService", SPOT: notice}
    assert service.metadata.is_terminating() is is_terminating
