"""Parts of the stack that several tests ask about."""

from __future__ import annotations

import base64
from typing import Any

from tests.infra.template import Resource, Stack


def the_group(stack: Stack) -> Resource:
    """With signals or without, there is one Auto Scaling group."""
    (group,) = stack.of_type("AWS::AutoScaling::AutoScalingGroup").values()
    return group


def launch_data(stack: Stack) -> dict[str, Any]:
    data: dict[str, Any] = stack.resources["LaunchTemplate"].properties["LaunchTemplateData"]
    return data


def boot_script(stack: Stack) -> str:
    return base64.b64decode(launch_data(stack)["UserData"]).decode()


def attributes(pairs: list[dict[str, str]]) -> dict[str, str]:
    """Attributes of a balancer, or tags, as a dictionary."""
    return {pair["Key"]: pair["Value"] for pair in pairs}
