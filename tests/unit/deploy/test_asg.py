from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from s3sync_agent.deploy.asg import members_of
from s3sync_agent.errors import ConfigError, StoreUnavailable


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKADMIN",
        "AWS_SECRET_ACCESS_KEY": "SKADMIN",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)


@pytest.fixture
def group(settings: None) -> Iterator[str]:
    """Two instances in a group."""
    with mock_aws():
        client = boto3.client("autoscaling")
        image = boto3.client("ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        client.create_launch_configuration(
            LaunchConfigurationName="web", ImageId=image, InstanceType="t3.micro"
        )
        client.create_auto_scaling_group(
            AutoScalingGroupName="web",
            LaunchConfigurationName="web",
            AvailabilityZones=["eu-central-1a"],
            MinSize=2,
            MaxSize=2,
        )
        yield "web"


def test_the_members_are_those_that_serve_or_are_about_to(group: str) -> None:
    ask = members_of(group)
    members = ask()
    assert len(members) == 2
    assert all(member.startswith("i-") for member in members)
    gone = min(members)
    boto3.client("autoscaling").terminate_instance_in_auto_scaling_group(
        InstanceId=gone, ShouldDecrementDesiredCapacity=False
    )
    assert gone not in ask()


def test_a_group_that_is_not_there_is_wrong_usage(group: str) -> None:
    with pytest.raises(ConfigError, match="there is no Auto Scaling group 'other' here") as refused:
        members_of("other")()
    assert "AWS_DEFAULT_REGION" in refused.value.hint


def test_without_a_region_it_says_what_to_set(settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(ConfigError, match="cannot ask for Auto Scaling groups") as refused:
        members_of("web")
    assert "AWS_DEFAULT_REGION" in refused.value.hint


def test_an_api_that_does_not_answer_could_not_be_asked(
    settings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreUnavailable, match="ask for the group web"):
        members_of("web")()
