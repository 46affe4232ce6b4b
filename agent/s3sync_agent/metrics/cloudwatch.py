"""The metrics for CloudWatch: one PutMetricData a time, under the one dimension `Group`.

No dimension names the instance: every combination of dimensions is a metric that is paid for, and a fleet
makes new instances all the time. The statistics of CloudWatch tell what matters of many: the largest
BehindSeconds, whether the smallest Sequence is the largest, how many are alive.

Counters are sent as what was added since the last success. Where an answer is lost, that counts twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError
from botocore.utils import IMDSRegionProvider

from s3sync_agent.errors import MetricsNotTaken
from s3sync_agent.layout import escape
from s3sync_agent.metrics.table import METRICS, Metric, Read, value
from s3sync_agent.report import Status

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_cloudwatch.literals import StandardUnitType
    from mypy_boto3_cloudwatch.type_defs import MetricDatumTypeDef

ATTEMPTS: Final = 2
CONNECT_SECONDS: Final = 3.0
READ_SECONDS: Final = 5.0
_UNITS: Final[Mapping[str, StandardUnitType]] = {"": "None", "seconds": "Seconds", "bytes": "Bytes"}

_HINTS: Final = {
    "AccessDenied": "allow cloudwatch:PutMetricData to the instance's role, for this namespace",
    "AccessDeniedException": "allow cloudwatch:PutMetricData to the instance's role, for this namespace",
}


class CloudWatch:
    """Sends what was counted since the agent began with the first export."""

    def __init__(self, namespace: str, group: str, read: Read) -> None:
        self._namespace = namespace
        self._group = group
        self._read = read
        self._sent: Mapping[str, float] = {}
        self._client: CloudWatchClient | None = None

    def export(self) -> None:
        """Raises MetricsNotTaken; then the next export sends these numbers too."""
        status = self._read()
        try:
            self._client = self._client or _client()
            self._client.put_metric_data(
                Namespace=self._namespace, MetricData=data(status, self._sent, self._group)
            )
        except ClientError as error:
            raise _refused(error) from error
        except NoRegionError as error:
            raise MetricsNotTaken(
                "put metrics: the region is not known",
                hint="set AWS_DEFAULT_REGION, or let the instance ask its metadata service",
            ) from error
        except NoCredentialsError as error:
            raise MetricsNotTaken(
                "put metrics: there are no usable credentials", hint="give the instance its role"
            ) from error
        except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no URL
            raise MetricsNotTaken(
                f"put metrics: {type(error).__name__}: {escape(str(error))[:200]}",
                hint="look at the route to CloudWatch (a VPC endpoint for monitoring) and the AWS settings",
            ) from error
        self._sent = counters(status)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def counters(status: Status) -> dict[str, float]:
    """Where every counter stands."""
    return {metric.name: value(metric, status) or 0.0 for metric in METRICS if metric.kind == "counter"}


def data(status: Status, sent: Mapping[str, float], group: str) -> list[MetricDatumTypeDef]:
    """What to send of `status` when the counters stood at `sent` the last time."""
    added = {name: number - sent.get(name, 0.0) for name, number in counters(status).items()}
    return [
        _datum(metric, number, group)
        for metric in METRICS
        if metric.cloudwatch
        and (number := added.get(metric.name, value(metric, status))) is not None
        and (not metric.of or added[metric.of])
    ]


def _datum(metric: Metric, number: float, group: str) -> MetricDatumTypeDef:
    return {
        "MetricName": metric.cloudwatch,
        "Dimensions": [{"Name": "Group", "Value": group}],
        "Value": number,
        "Unit": "Count" if metric.kind == "counter" and not metric.unit else _UNITS[metric.unit],
    }


def _client() -> CloudWatchClient:
    """Made from botocore's session directly, as the bucket's is. The region is the AWS settings' own, else
    the one this instance is in. Raises NoRegionError, NoCredentialsError: a client made without would stay
    without, and the role, or the metadata service, may come later."""
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=1,
        user_agent_extra="s3sync-agent",
    )
    session = botocore.session.get_session()
    region = session.get_config_variable("region") or IMDSRegionProvider(session).provide()
    if region is None:
        raise NoRegionError
    if session.get_credentials() is None:
        raise NoCredentialsError
    return cast("CloudWatchClient", session.create_client("cloudwatch", region_name=region, config=config))


def _refused(error: ClientError) -> MetricsNotTaken:
    told: Mapping[str, Any] = error.response.get("Error", {})
    code = escape(str(told.get("Code", "")))[:80]
    # The first line alone: that of a wrong signature goes on with what was signed, a token included.
    said = escape(str(told.get("Message", "")).partition("\n")[0])[:200]
    return MetricsNotTaken(f"put metrics: CloudWatch answered {code}: {said}", hint=_HINTS.get(code, ""))
