"""The launch template, its boot script, and the Auto Scaling group with its rolling updates."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from s3sync_agent.deploy import userdata
from s3sync_agent.layout import MachinePaths, Site
from s3sync_agent.setup.aws_settings import AwsSettings
from scripts.template import signal
from tests.infra.given import EVERYTHING, bundle
from tests.infra.parts import boot_script, launch_data, the_group
from tests.infra.template import REGION, Resource, Template

EGRESS = ["nat", "endpoints", "none"]
SIGNALLING = ["nat", "endpoints"]


def seconds(duration: str) -> int:
    """Of an ISO duration in minutes, as CloudFormation takes it."""
    match = re.fullmatch(r"PT(\d+)M", duration)
    assert match is not None, duration
    return int(match[1]) * 60


def rolling(group: Resource) -> dict[str, Any]:
    policy: dict[str, Any] = group.attributes["UpdatePolicy"]["AutoScalingRollingUpdate"]
    return policy


# ------------------------------------------------------------------------------ boot script


@pytest.mark.parametrize("egress", EGRESS)
def test_the_boot_script_is_what_s3sync_renders(template: Template, egress: str) -> None:
    stack = template.stack(Egress=egress, **bundle("a"))
    assert boot_script(stack) == userdata.render(
        Site(stack.ref("SiteBucket")),
        aws=AwsSettings(REGION),
        bundle=bundle("a")["AgentBundle"],
        sha256=bundle("a")["AgentBundleSha256"],
        role_id=stack.attribute("InstanceRole", "RoleId"),
        settings={"cloudwatch_namespace": "" if egress == "none" else "s3sync-agent/site"},
        amazon_linux=True,
        on_end=signal(egress=egress, region=REGION, stack="site"),
    )


@pytest.mark.parametrize("egress", EGRESS)
def test_the_boot_script_fits_into_user_data(template: Template, egress: str) -> None:
    stack = template.stack(Egress=egress, **bundle("a"))
    longest = (
        boot_script(stack).replace(stack.ref("SiteBucket"), "b" * 63).replace(" site ", f" {'s' * 128} ")
    )
    assert len(longest.encode()) <= 16 * 1024


def test_the_boot_script_names_the_python_that_was_given(template: Template) -> None:
    stack = template.stack(AgentPython="3.13", **bundle("a"))
    assert "\npython=python3.13\n" in boot_script(stack)


@pytest.mark.parametrize("egress", SIGNALLING)
def test_the_boot_script_signals_the_group_that_waits(template: Template, egress: str) -> None:
    stack = template.stack(Egress=egress, **bundle("a"))
    (waiting,) = [name for name, one in stack.resources.items() if "CreationPolicy" in one.attributes]
    command = re.search(r"aws cloudformation signal-resource (.*)", boot_script(stack))
    assert command is not None
    words = shlex.split(command[1].partition("--unique-id")[0])
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert options == {"--region": REGION, "--stack-name": "site", "--logical-resource-id": waiting}


@pytest.mark.parametrize("egress", EGRESS)
def test_a_signal_that_fails_fails_no_boot(template: Template, egress: str) -> None:
    (line,) = [
        line
        for line in boot_script(template.stack(Egress=egress, **bundle("a"))).splitlines()
        if "signal-resource" in line
    ]
    assert line.endswith("|| true")
    assert "timeout 300" in line


def test_the_boot_script_writes_where_the_agent_reads(template: Template) -> None:
    machine = MachinePaths()
    script = boot_script(template.stack(**bundle("a")))
    for path in (machine.user_data, machine.nginx, machine.unit):
        assert str(path) in script
    assert f"try-restart --no-block {machine.service}" in script


# -------------------------------------------------------------------------- launch template


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_image_and_type_are_those_of_the_architecture(template: Template, architecture: str) -> None:
    images = {"ImageIdArm64": "/images/arm64", "ImageIdX86": "/images/x86_64"}
    data = launch_data(template.stack(Architecture=architecture, **images, **bundle("a")))
    assert data["ImageId"] == f"(value of /images/{architecture})"
    assert data["InstanceType"] == {"arm64": "t4g.small", "x86_64": "t3.small"}[architecture]
    given = template.stack(Architecture=architecture, InstanceType="m7g.large", **bundle("a"))
    assert launch_data(given)["InstanceType"] == "m7g.large"


@pytest.mark.parametrize(("name", "processor"), [("ImageIdArm64", "arm64"), ("ImageIdX86", "x86_64")])
def test_images_are_the_newest_amazon_linux_2023(template: Template, name: str, processor: str) -> None:
    spec = template.parameters[name]
    assert spec["Type"] == "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>"
    assert spec["Default"] == f"/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{processor}"


def test_the_metadata_service_asks_for_a_token_and_answers_the_machine_alone(template: Template) -> None:
    assert launch_data(template.stack(**bundle("a")))["MetadataOptions"] == {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
    }


def test_the_disk_is_encrypted_and_as_large_as_was_said(template: Template) -> None:
    (disk,) = launch_data(template.stack(VolumeSize="40", **bundle("a")))["BlockDeviceMappings"]
    assert disk["DeviceName"] == "/dev/xvda", "the root device of Amazon Linux"
    assert disk["Ebs"] == {
        "VolumeType": "gp3",
        "VolumeSize": "40",
        "Encrypted": True,
        "DeleteOnTermination": True,
    }


def test_an_instance_has_the_instance_role(template: Template) -> None:
    stack = template.stack(**bundle("a"))
    profile = stack.attribute("InstanceProfile", "Arn")
    assert launch_data(stack)["IamInstanceProfile"] == {"Arn": profile}


def test_nobody_needs_a_key_to_get_onto_an_instance(template: Template) -> None:
    assert "KeyName" not in launch_data(template.stack(**EVERYTHING))


# -------------------------------------------------------------------------------- the group


def test_capacity_comes_last(template: Template) -> None:
    """Before a release was promoted /healthz says 503, and the group would replace instances for ever."""
    stack = template.stack()
    assert not stack.of_type("AWS::AutoScaling::AutoScalingGroup")
    assert not stack.of_type("AWS::EC2::LaunchTemplate")


@pytest.mark.parametrize("egress", EGRESS)
def test_the_group_launches_from_the_version_that_was_deployed(template: Template, egress: str) -> None:
    """With $Latest an update would change nothing in the group, and replace nobody."""
    stack = template.stack(Egress=egress, **bundle("a"))
    assert the_group(stack).properties["LaunchTemplate"] == {
        "LaunchTemplateId": stack.ref("LaunchTemplate"),
        "Version": stack.attribute("LaunchTemplate", "LatestVersionNumber"),
    }


@pytest.mark.parametrize("egress", EGRESS)
def test_an_update_leaves_the_size_to_scaling_and_to_people(template: Template, egress: str) -> None:
    group = the_group(template.stack(Egress=egress, MinInstances="3", MaxInstances="9", **bundle("a")))
    assert (group.properties["MinSize"], group.properties["MaxSize"]) == ("3", "9")
    assert "DesiredCapacity" not in group.properties
    scheduled = group.attributes["UpdatePolicy"]["AutoScalingScheduledAction"]
    assert scheduled == {"IgnoreUnmodifiedGroupSizeProperties": True}


@pytest.mark.parametrize("egress", EGRESS)
def test_an_instance_is_judged_by_what_visitors_would_see(template: Template, egress: str) -> None:
    stack = template.stack(Egress=egress, **bundle("a"))
    group = the_group(stack).properties
    assert group["HealthCheckType"] == "ELB"
    assert group["TargetGroupARNs"] == [stack.ref("TargetGroup")]


@pytest.mark.parametrize("egress", SIGNALLING)
def test_creation_waits_until_every_instance_has_said_that_it_serves(template: Template, egress: str) -> None:
    group = the_group(template.stack(Egress=egress, MinInstances="3", **bundle("a")))
    assert group.attributes["CreationPolicy"]["ResourceSignal"]["Count"] == group.properties["MinSize"] == "3"


@pytest.mark.parametrize("egress", SIGNALLING)
def test_an_update_replaces_one_instance_after_another_and_never_serves_with_fewer(
    template: Template, egress: str
) -> None:
    group = the_group(template.stack(Egress=egress, MinInstances="3", **bundle("a")))
    assert rolling(group)["WaitOnResourceSignals"] is True
    assert rolling(group)["MaxBatchSize"] == 1
    assert rolling(group)["MinInstancesInService"] == group.properties["MinSize"] == "3"


@pytest.mark.parametrize("egress", SIGNALLING)
def test_an_update_is_disturbed_by_nothing(template: Template, egress: str) -> None:
    suspended = set(rolling(the_group(template.stack(Egress=egress, **bundle("a"))))["SuspendProcesses"])
    assert {
        "HealthCheck",
        "ReplaceUnhealthy",
        "AZRebalance",
        "AlarmNotification",
        "ScheduledActions",
    } <= suspended
    assert not suspended & {"Launch", "Terminate", "AddToLoadBalancer"}, "the update itself needs these"


@pytest.mark.parametrize("egress", SIGNALLING)
def test_signal_time_out_and_grace_period_are_in_step_and_longer_than_a_boot_may_take(
    template: Template, egress: str
) -> None:
    """In less time a machine that boots slowly would be replaced by another that boots slowly."""
    stack = template.stack(Egress=egress, **bundle("a"))
    group = the_group(stack)
    limit = seconds(group.attributes["CreationPolicy"]["ResourceSignal"]["Timeout"])
    assert seconds(rolling(group)["PauseTime"]) == limit
    assert group.properties["HealthCheckGracePeriod"] == limit
    waits = re.search(r"--wait (\d+)", boot_script(stack))
    assert waits is not None
    assert int(waits[1]) + 120 <= limit


def test_without_egress_nobody_waits_for_signals_that_cannot_come(template: Template) -> None:
    group = the_group(template.stack(Egress="none", **bundle("a")))
    assert "CreationPolicy" not in group.attributes
    assert "AutoScalingRollingUpdate" not in group.attributes["UpdatePolicy"]


def test_both_groups_are_the_same_but_for_signals(template: Template) -> None:
    loud = the_group(template.stack(Egress="nat", **bundle("a")))
    quiet = the_group(template.stack(Egress="none", **bundle("a")))
    assert loud.properties == quiet.properties


NEEDED = {
    "nat": {"PrivateDefaultRoute", "NatGateway", "PrivateRoutesA", "PrivateRoutesB", "S3Endpoint"},
    "endpoints": {
        "CloudFormationEndpoint",
        "MonitoringEndpoint",
        "PrivateRoutesA",
        "PrivateRoutesB",
        "S3Endpoint",
    },
    "none": {"PrivateRoutesA", "PrivateRoutesB", "S3Endpoint"},
}


@pytest.mark.parametrize("egress", EGRESS)
def test_instances_are_launched_when_all_that_they_need_is_there(template: Template, egress: str) -> None:
    """A gateway that comes later than the first instance is a signal that never arrives."""
    stack = template.stack(Egress=egress, **bundle("a"))
    (name,) = stack.of_type("AWS::AutoScaling::AutoScalingGroup")
    always = {"InstanceRole", "SiteBucketPolicy", "HttpListener", "TargetGroup"}
    assert NEEDED[egress] | always <= stack.before(name)


@pytest.mark.parametrize("egress", EGRESS)
def test_instances_are_launched_when_visitors_can_be_sent_to_them(template: Template, egress: str) -> None:
    stack = template.stack(**{**EVERYTHING, "Egress": egress, "SessionManager": "no"})
    (name,) = stack.of_type("AWS::AutoScaling::AutoScalingGroup")
    assert "HttpsListener" in stack.before(name)


def test_nothing_hooks_into_termination(template: Template) -> None:
    """The group waits for the balancer by itself; a hook that nobody completes would only delay."""
    assert not template.stack(**EVERYTHING).of_type("AWS::AutoScaling::LifecycleHook")


@pytest.mark.parametrize("egress", EGRESS)
def test_scaling_keeps_the_cpu_where_it_was_asked_to(template: Template, egress: str) -> None:
    stack = template.stack(Egress=egress, ScaleAtCpuPercent="55", **bundle("a"))
    (policy,) = stack.of_type("AWS::AutoScaling::ScalingPolicy").values()
    (name,) = stack.of_type("AWS::AutoScaling::AutoScalingGroup")
    assert policy.properties == {
        "AutoScalingGroupName": stack.ref(name),
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingConfiguration": {
            "PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"},
            "TargetValue": "55",
        },
    }
    assert not template.stack(Egress=egress, **bundle("a")).of_type("AWS::AutoScaling::ScalingPolicy")
    assert not template.stack(Egress=egress, ScaleAtCpuPercent="55").of_type(
        "AWS::AutoScaling::ScalingPolicy"
    )
