"""Who is in an Auto Scaling group."""

from __future__ import annotations

from typing import Any, Protocol, cast

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from s3sync_agent.deploy.promoter import Members
from s3sync_agent.errors import ConfigError, StoreDenied, StoreUnavailable
from s3sync_agent.layout import escape


class _Client(Protocol):
    """What is asked of the SDK's client."""

    def describe_auto_scaling_groups(
        self,
        *,
        AutoScalingGroupNames: list[str],  # noqa: N803  # the API's name
    ) -> dict[str, Any]: ...


# Those that serve, or are about to. Who is terminating serves no longer than it takes to drain.
_PRESENT = {"InService", "Pending", "Pending:Wait", "Pending:Proceed"}
_CONFIG = Config(
    connect_timeout=5,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 4},
    user_agent_extra="s3sync-agent",
)


def members_of(group: str) -> Members:
    """A function that asks for the instance ids in the group.

    It raises ConfigError when there is no such group, StoreDenied and StoreUnavailable as S3 would.
    """
    client = _client()

    def ask() -> frozenset[str]:
        try:
            answer = client.describe_auto_scaling_groups(AutoScalingGroupNames=[group])
        except ClientError as error:
            raise _refused(group, error) from error
        except BotoCoreError as error:
            raise StoreUnavailable(f"ask for the group {group}: {escape(str(error))[:200]}") from error
        groups = answer["AutoScalingGroups"]
        if not groups:
            raise ConfigError(
                f"there is no Auto Scaling group {escape(group)!r} here",
                hint="look at its name, and at the region: AWS_DEFAULT_REGION",
            )
        return frozenset(
            instance["InstanceId"]
            for instance in groups[0]["Instances"]
            if instance["LifecycleState"] in _PRESENT
        )

    return ask


def _client() -> _Client:
    try:
        client = botocore.session.get_session().create_client("autoscaling", config=_CONFIG)
    except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no URL
        raise ConfigError(
            f"cannot ask for Auto Scaling groups: {escape(str(error))[:200]}",
            hint="set AWS_DEFAULT_REGION and credentials, as for S3",
        ) from error
    return cast("_Client", client)


def _refused(group: str, error: ClientError) -> StoreDenied | StoreUnavailable:
    told = error.response.get("Error", {})
    code = escape(str(told.get("Code", "")))[:80]
    message = f"ask for the group {group}: AWS answered {code}: {escape(str(told.get('Message', '')))[:200]}"
    if "Throttl" in code or error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
        return StoreUnavailable(message)
    return StoreDenied(message, hint="allow autoscaling:DescribeAutoScalingGroups to whoever promotes")
