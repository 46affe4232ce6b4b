"""What ministack drops and moto does not: weights of target groups, and instances with their user data.

moto takes the template's values through its API, one by one; it makes little of the template itself.
"""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.infra.emulators import Aws
from tests.infra.given import IMAGE, bundle
from tests.infra.parts import attributes
from tests.infra.template import Stack, Template


@pytest.fixture
def stack(template: Template) -> Stack:
    return template.stack(**bundle("a"))


@pytest.fixture
def network(moto: Aws) -> tuple[str, list[str]]:
    """A VPC and two subnets in it."""
    ec2 = moto.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    zones = ("eu-central-1a", "eu-central-1b")
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=zone)["Subnet"][
            "SubnetId"
        ]
        for number, zone in enumerate(zones)
    ]
    return vpc, subnets


def test_target_groups_share_requests_by_weight(
    moto: Aws, stack: Stack, network: tuple[str, list[str]]
) -> None:
    """The listener is as the template has it; blue/green is a second target group and other weights."""
    elb = moto.client("elbv2")
    vpc, subnets = network
    balancer = elb.create_load_balancer(Name="site", Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
    target = stack.resources["TargetGroup"].properties
    made = {name: value for name, value in target.items() if name not in {"TargetGroupAttributes", "VpcId"}}
    blue, green = (
        elb.create_target_group(Name=name, VpcId=vpc, **made)["TargetGroups"][0]["TargetGroupArn"]
        for name in ("blue", "green")
    )
    (action,) = stack.resources["HttpListener"].properties["DefaultActions"]
    (only,) = action["ForwardConfig"]["TargetGroups"]
    shares = [{**only, "TargetGroupArn": blue, "Weight": 90}, {**only, "TargetGroupArn": green, "Weight": 10}]
    listener = elb.create_listener(
        LoadBalancerArn=balancer,
        Protocol=stack.resources["HttpListener"].properties["Protocol"],
        Port=stack.resources["HttpListener"].properties["Port"],
        DefaultActions=[{**action, "ForwardConfig": {"TargetGroups": shares}}],
    )["Listeners"][0]
    (found,) = elb.describe_listeners(ListenerArns=[listener["ListenerArn"]])["Listeners"]
    weights = {
        one["TargetGroupArn"]: one["Weight"]
        for one in found["DefaultActions"][0]["ForwardConfig"]["TargetGroups"]
    }
    assert weights == {blue: 90, green: 10}


def test_a_target_group_is_what_the_template_says(
    moto: Aws, stack: Stack, network: tuple[str, list[str]]
) -> None:
    elb = moto.client("elbv2")
    target = stack.resources["TargetGroup"].properties
    wanted = target["TargetGroupAttributes"]
    made = {name: value for name, value in target.items() if name not in {"TargetGroupAttributes", "VpcId"}}
    arn = elb.create_target_group(Name="site", VpcId=network[0], **made)["TargetGroups"][0]["TargetGroupArn"]
    elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=wanted)
    found = attributes(elb.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"])
    assert found.items() >= attributes(wanted).items()


def test_an_instance_from_the_deployed_launch_template_has_its_user_data(
    aws: Aws, path: Path, moto: Aws, network: tuple[str, list[str]]
) -> None:
    """Deployed in ministack, launched in moto, where its image, role and network are not known."""
    aws.create(path, **IMAGE, **bundle("a"), Egress="none")
    deployed = aws.launch_data_in_force()
    ec2 = moto.client("ec2")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    interface = {"DeviceIndex": 0, "SubnetId": network[1][0]}
    ec2.create_launch_template(
        LaunchTemplateName="site",
        LaunchTemplateData={
            **{name: deployed[name] for name in ("InstanceType", "TagSpecifications", "UserData")},
            "ImageId": image,
            "NetworkInterfaces": [interface],
        },
    )
    (instance,) = ec2.run_instances(
        LaunchTemplate={"LaunchTemplateName": "site", "Version": "1"}, MinCount=1, MaxCount=1
    )["Instances"]
    found = ec2.describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="userData")
    assert found["UserData"]["Value"] == deployed["UserData"]
    assert f"s3://{aws.outputs()['SiteBucket']}" in base64.b64decode(found["UserData"]["Value"]).decode()
