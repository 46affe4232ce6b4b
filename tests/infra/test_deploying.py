"""The template as it stands, through the real `aws` command line, from nothing to deleted (ministack).

ministack knows no NAT gateway, identity provider or web ACL: those variants are asserted on the template. It
launches no instances and waits for no signals.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.infra.emulators import Aws
from tests.infra.given import GIVEN_NETWORK, IMAGE, OIDC_PROVIDER, bundle
from tests.infra.template import Template


@pytest.fixture
def with_instances(aws: Aws, path: Path) -> dict[str, str]:
    """A stack with a bundle; its parameters."""
    parameters = {**IMAGE, "Egress": "endpoints", **bundle("a")}
    aws.create(path, **parameters)
    return parameters


def the_group(aws: Aws) -> dict[str, Any]:
    (group,) = aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    return dict(group)


def user_data_in_force(aws: Aws) -> str:
    return base64.b64decode(aws.launch_data_in_force()["UserData"]).decode()


def test_aws_takes_the_file_directly(path: Path) -> None:
    assert path.stat().st_size <= 51_200


def test_with_defaults_a_stack_is_created_and_a_second_deployment_changes_nothing(
    aws: Aws, path: Path
) -> None:
    done = aws.deploy(path, **IMAGE)
    assert done.returncode == 0, done.stderr
    assert aws.status() == "CREATE_COMPLETE"
    again = aws.deploy(path, "--no-fail-on-empty-changeset", **IMAGE)
    assert (again.returncode, again.stderr) == (0, "")
    assert "No changes to deploy" in again.stdout
    assert aws.status() == "CREATE_COMPLETE"


def test_a_bundle_adds_what_instances_need_and_touches_nothing_else(aws: Aws, path: Path) -> None:
    parameters = {**IMAGE, "Egress": "endpoints"}
    aws.create(path, **parameters)
    before = aws.resources()
    aws.deploy(path, "--no-execute-changeset", **parameters, **bundle("a"))
    cloudformation = aws.client("cloudformation")
    change_set = cloudformation.list_change_sets(StackName="site")["Summaries"][-1]
    changes = cloudformation.describe_change_set(ChangeSetName=change_set["ChangeSetId"])["Changes"]
    # It looks at parameters alone: it also names what stays absent, and not what only a condition adds.
    assert {"LaunchTemplate", "AutoScalingGroup"} <= {
        change["ResourceChange"]["LogicalResourceId"] for change in changes
    }
    assert aws.resources() == before, "a change set that was not executed changed something"

    assert aws.deploy(path, **parameters, **bundle("a")).returncode == 0
    after = aws.resources()
    assert {"LaunchTemplate", "AutoScalingGroup"} <= after.keys() - before.keys()
    assert {name: after[name] for name in before} == before


def test_another_bundle_is_another_version_of_the_launch_template(
    aws: Aws, path: Path, with_instances: dict[str, str]
) -> None:
    assert bundle("a")["AgentBundle"] in user_data_in_force(aws)
    assert aws.deploy(path, **{**with_instances, **bundle("b")}).returncode == 0
    assert the_group(aws)["LaunchTemplate"]["Version"] == "2"
    assert bundle("b")["AgentBundle"] in user_data_in_force(aws)


def test_parameters_that_are_not_given_stay_as_they_were(
    aws: Aws, path: Path, with_instances: dict[str, str]
) -> None:
    assert aws.deploy(path, MaxInstances="6").returncode == 0
    group = the_group(aws)
    assert (group["MinSize"], group["MaxSize"]) == (2, 6)
    assert bundle("a")["AgentBundle"] in user_data_in_force(aws)


def test_an_update_that_fails_is_rolled_back(aws: Aws, path: Path, with_instances: dict[str, str]) -> None:
    nowhere = {"DomainName": "www.example.com", "HostedZoneId": "Z0NOSUCHZONE"}
    failed = aws.deploy(path, **{**with_instances, **bundle("b"), **nowhere})
    assert failed.returncode != 0
    assert aws.status() == "UPDATE_ROLLBACK_COMPLETE"
    assert bundle("a")["AgentBundle"] in user_data_in_force(aws)
    elb = aws.client("elbv2")
    (listener,) = elb.describe_listeners(LoadBalancerArn=aws.resources()["LoadBalancer"])["Listeners"]
    assert (listener["Protocol"], listener["DefaultActions"][0]["Type"]) == ("HTTP", "forward")
    repaired = aws.deploy(path, **{**with_instances, **bundle("b")}, DomainName="", HostedZoneId="")
    assert repaired.returncode == 0, repaired.stderr


def test_parameters_that_contradict_are_refused_before_anything_is_created(aws: Aws, path: Path) -> None:
    refused = aws.deploy(path, **IMAGE, Egress="none", AgentBundle=bundle("a")["AgentBundle"])
    assert refused.returncode != 0
    assert "AgentBundle and AgentBundleSha256 belong together" in refused.stderr
    assert not aws.client("elbv2").describe_load_balancers()["LoadBalancers"]


@pytest.mark.usefixtures("with_instances")
def test_deleting_keeps_the_buckets_and_nothing_else(aws: Aws) -> None:
    outputs = aws.outputs()
    assert aws.run("cloudformation", "delete-stack", "--stack-name", "site").returncode == 0
    waiter = aws.client("cloudformation").get_waiter("stack_delete_complete")
    waiter.wait(StackName="site", WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})
    buckets = {bucket["Name"] for bucket in aws.client("s3").list_buckets()["Buckets"]}
    assert buckets == {outputs["SiteBucket"], outputs["LogBucket"]}
    left = {
        "groups": aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"],
        "launch templates": aws.client("ec2").describe_launch_templates()["LaunchTemplates"],
        "load balancers": aws.client("elbv2").describe_load_balancers()["LoadBalancers"],
        "roles": aws.client("iam").list_roles()["Roles"],
        "alarms": aws.client("cloudwatch").describe_alarms()["MetricAlarms"],
    }
    assert not any(left.values()), left


VARIANTS: dict[str, dict[str, str]] = {
    "before there is a bundle": {"AgentBundle": "", "AgentBundleSha256": ""},
    "without egress": {"Egress": "none"},
    "with endpoints": {"Egress": "endpoints", "SessionManager": "yes"},
    "in a network that was there": {**GIVEN_NETWORK, "PrivateRouteTableIds": "rtb-1"},
    "with a certificate": {
        "Egress": "endpoints",
        "DomainName": "www.example.com",
        "CertificateArn": "arn:aws:acm:eu-central-1:123456789012:certificate/1",
    },
    "with mail and scaling": {"Egress": "none", "AlarmEmail": "a@example.com", "ScaleAtCpuPercent": "50"},
    "with a key": {"Egress": "none", "KmsKeyArn": "arn:aws:kms:eu-central-1:123456789012:key/1"},
    "with a role for a repository": {
        "Egress": "none",
        "GitHubRepository": "owner/name",
        "GitHubOidcProviderArn": OIDC_PROVIDER,
        "AllowPruning": "yes",
    },
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_variant_is_created_as_the_template_says(
    aws: Aws, path: Path, template: Template, variant: dict[str, str]
) -> None:
    parameters: dict[str, Any] = {**IMAGE, **bundle("a"), **variant}
    aws.create(path, **parameters)
    expected = template.stack(**parameters)
    assert aws.resources().keys() == expected.resources.keys()
    assert aws.outputs().keys() == expected.outputs.keys()
