"""CloudWatch: what is sent, as a server takes it, and what comes of servers that do not."""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import boto3
import msgspec
import pytest
from mypy_boto3_cloudwatch import CloudWatchClient

from s3sync_agent.counts import Counts
from s3sync_agent.errors import MetricsNotTaken
from s3sync_agent.metrics import cloudwatch as module
from s3sync_agent.metrics.cloudwatch import CloudWatch, counters, data
from s3sync_agent.metrics.table import METRICS
from s3sync_agent.report import Status
from tests.servers import S3Server
from tests.statuses import STATUS
from tests.unit.bucket.raw_http import Answer, RawServer, raw_server

GROUP = "bucket/site"


def status(**counts: float) -> Status:
    return msgspec.structs.replace(STATUS, counts=msgspec.structs.replace(STATUS.counts, **counts))


def values(now: Status, before: Status) -> dict[str, float]:
    return {datum["MetricName"]: datum["Value"] for datum in data(now, counters(before), GROUP)}


# ---------------------------------------------------------------------------- what is sent


def test_a_counter_is_sent_as_what_was_added() -> None:
    sent = values(status(polls=15, drift_found=2), status(polls=3))
    assert (sent["Polls"], sent["DriftFound"], sent["Stages"]) == (12, 2, 0)


def test_a_gauge_is_sent_as_it_is_and_an_unknown_one_not_at_all() -> None:
    now = msgspec.structs.replace(STATUS, behind_seconds=7.5, stale=True, sequence=0)
    sent = values(now, now)
    assert (sent["BehindSeconds"], sent["Stale"], sent["Alive"]) == (7.5, 1, 1)
    assert "Sequence" not in sent


def test_how_long_the_last_one_took_is_sent_once_for_each() -> None:
    before, now = status(stages=1), status(stages=2, last_stage_seconds=3.5)
    assert values(now, before)["StageSeconds"] == 3.5
    assert "StageSeconds" not in values(now, now)


def test_the_group_is_the_only_dimension_so_costs_do_not_grow_with_the_fleet() -> None:
    for datum in data(STATUS, {}, GROUP):
        assert datum["Dimensions"] == [{"Name": "Group", "Value": GROUP}]
        assert STATUS.identity not in str(datum)


def test_a_minute_fits_into_one_request() -> None:
    assert len(METRICS) <= 1000
    units = {datum["MetricName"]: datum["Unit"] for datum in data(STATUS, {}, GROUP)}
    assert (units["Polls"], units["Bytes"], units["BehindSeconds"], units["Stale"]) == (
        "Count",
        "Bytes",
        "Seconds",
        "None",
    )


# --------------------------------------------------------------------- a server that takes it


@pytest.fixture
def server(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudWatchClient]:
    for name, setting in moto_server.environment().items():
        monkeypatch.setenv(name, setting)
    client: CloudWatchClient = boto3.client("cloudwatch")
    with closing(client):
        yield client


def stored(server: CloudWatchClient, namespace: str, name: str, group: str) -> list[float]:
    """[sum, smallest, largest, samples] of what the server has under that name, or nothing."""
    now = datetime.now(UTC)
    found = server.get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": "Group", "Value": group}],
        StartTime=now - timedelta(minutes=30),
        EndTime=now + timedelta(minutes=30),
        Period=3600,
        Statistics=["Sum", "Minimum", "Maximum", "SampleCount"],
    )["Datapoints"]
    return [number for p in found for number in (p["Sum"], p["Minimum"], p["Maximum"], p["SampleCount"])]


def test_a_fleet_is_one_metric_whose_statistics_tell_how_many_agree(server: CloudWatchClient) -> None:
    namespace = f"test-{uuid.uuid4().hex}"
    for sequence in (7, 9):
        now = msgspec.structs.replace(STATUS, sequence=sequence)
        CloudWatch(namespace, GROUP, lambda now=now: now).export()  # type: ignore[misc]
    assert stored(server, namespace, "Alive", GROUP) == [2, 1, 1, 2]
    assert stored(server, namespace, "Sequence", GROUP)[1:3] == [7, 9]
    listed = server.list_metrics(Namespace=namespace)["Metrics"]
    assert len({metric["MetricName"] for metric in listed}) == len(listed)


def test_what_was_sent_is_not_sent_again(server: CloudWatchClient) -> None:
    namespace = f"test-{uuid.uuid4().hex}"
    now = [status(polls=10)]
    exporter = CloudWatch(namespace, GROUP, lambda: now[0])
    exporter.export()
    now[0] = status(polls=22)
    exporter.export()
    exporter.close()
    assert stored(server, namespace, "Polls", GROUP)[0] == 22


# ------------------------------------------------------------------- servers that do not


@pytest.fixture
def raw(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawServer]:
    with raw_server() as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", found.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENTIFIER")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret-key")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "the-session-token")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield found


def refusal(code: str, message: str) -> Answer:
    """In the form of whichever protocol the SDK speaks to CloudWatch."""
    xml = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    return Answer(403, xml.encode(), {"Content-Type": "text/xml", "x-amzn-query-error": f"{code};Sender"})


def test_what_could_not_be_sent_is_sent_with_the_next(raw: RawServer) -> None:
    now = [status(polls=10)]
    exporter = CloudWatch("ns", GROUP, lambda: now[0])
    raw.answers = [refusal("AccessDenied", "not authorized")]
    with pytest.raises(MetricsNotTaken):
        exporter.export()
    assert exporter._sent == {}
    exporter.close()


def test_a_refusal_names_its_code_and_says_what_to_allow(raw: RawServer) -> None:
    raw.answers = [refusal("AccessDenied", "User is not authorized")]
    with pytest.raises(MetricsNotTaken, match="AccessDenied") as refused:
        CloudWatch("ns", GROUP, lambda: STATUS).export()
    assert "cloudwatch:PutMetricData" in refused.value.hint


def test_of_a_wrong_signature_nothing_that_was_signed_is_told(raw: RawServer) -> None:
    raw.answers = [refusal("SignatureDoesNotMatch", "no match\n\nx-amz-security-token:the-session-token")]
    with pytest.raises(MetricsNotTaken) as refused:
        CloudWatch("ns", GROUP, lambda: STATUS).export()
    assert "SignatureDoesNotMatch" in str(refused.value)
    assert "the-session-token" not in f"{refused.value} {refused.value.hint}"


def test_a_server_that_hangs_is_given_up_on(raw: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_SECONDS", 0.2)
    raw.answers = [Answer(silent=True)]
    started = time.monotonic()
    with pytest.raises(MetricsNotTaken, match="ReadTimeoutError"):
        CloudWatch("ns", GROUP, lambda: STATUS).export()
    assert time.monotonic() - started < 10
    assert len(raw.requests) == module.ATTEMPTS


def test_credentials_that_come_later_are_used(raw: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = CloudWatch("ns", GROUP, lambda: STATUS)
    with monkeypatch.context() as without:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            without.delenv(name)
        with pytest.raises(MetricsNotTaken, match="credentials") as refused:
            exporter.export()
    assert "role" in refused.value.hint
    raw.answers = [Answer(200, b"{}", {"Content-Type": "application/x-amz-json-1.0"})]
    exporter.export()
    exporter.close()


# ------------------------------------------------------------------------------ the region


class _Metadata(BaseHTTPRequestHandler):
    """What an instance's metadata service says to somebody with a token, and to nobody else."""

    def do_PUT(self) -> None:
        self._say("token" if self.path == "/latest/api/token" else "")

    def do_GET(self) -> None:
        asked = re.fullmatch(r"/latest/meta-data/placement/availability-zone/?", self.path)
        self._say("eu-central-1a" if asked and self.headers["x-aws-ec2-metadata-token"] == "token" else "")

    def _say(self, text: str) -> None:
        self.send_response(200 if text else 404)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the name it has there
        """Say nothing."""


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with HTTPServer(("127.0.0.1", 0), _Metadata) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENTIFIER")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret-key")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{found.server_port}")
        yield
        found.shutdown()
        thread.join(timeout=5)


@pytest.mark.usefixtures("metadata")
def test_the_region_is_the_instance_s_own_when_none_is_set() -> None:
    with closing(module._client()) as client:
        assert client.meta.region_name == "eu-central-1"


@pytest.mark.usefixtures("metadata")
def test_a_region_that_is_set_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    with closing(module._client()) as client:
        assert client.meta.region_name == "us-west-2"


def test_without_any_region_it_says_what_to_set() -> None:
    with pytest.raises(MetricsNotTaken, match="region") as missing:
        CloudWatch("ns", GROUP, lambda: STATUS).export()
    assert "AWS_DEFAULT_REGION" in missing.value.hint


def test_everything_counted_since_the_agent_began_goes_with_the_first() -> None:
    sent = {datum["MetricName"]: datum["Value"] for datum in data(status(polls=5), {}, GROUP)}
    assert sent["Polls"] == 5
    assert Counts() != STATUS.counts
