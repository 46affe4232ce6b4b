"""The network: balancer in public subnets, instances in private ones, S3 on its own way, the rest by
Egress."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from tests.infra import policies
from tests.infra.given import bundle
from tests.infra.parts import launch_data, the_group
from tests.infra.policies import Request
from tests.infra.template import Stack, Template

GIVEN_NETWORK = {
    "VpcId": "vpc-1",
    "PublicSubnetIds": "subnet-1,subnet-2",
    "PrivateSubnetIds": "subnet-3,subnet-4",
}
EGRESS = ["nat", "endpoints", "none"]


def subnets(stack: Stack) -> dict[str, dict[str, Any]]:
    return {stack.ref(name): one.properties for name, one in stack.of_type("AWS::EC2::Subnet").items()}


def public_and_private(stack: Stack) -> tuple[list[str], list[str]]:
    return stack.resources["LoadBalancer"].properties["Subnets"], the_group(stack).properties[
        "VPCZoneIdentifier"
    ]


def default_routes(stack: Stack, subnet: str) -> list[dict[str, Any]]:
    """Where a subnet's traffic to the internet goes."""
    (table,) = [
        one.properties["RouteTableId"]
        for one in stack.of_type("AWS::EC2::SubnetRouteTableAssociation").values()
        if one.properties["SubnetId"] == subnet
    ]
    return [
        one.properties
        for one in stack.of_type("AWS::EC2::Route").values()
        if one.properties["RouteTableId"] == table and one.properties["DestinationCidrBlock"] == "0.0.0.0/0"
    ]


def interface_endpoints(stack: Stack) -> dict[str, dict[str, Any]]:
    return {
        one.properties["ServiceName"].rpartition(".")[2]: one.properties
        for one in stack.of_type("AWS::EC2::VPCEndpoint").values()
        if one.properties["VpcEndpointType"] == "Interface"
    }


@pytest.mark.parametrize("egress", EGRESS)
def test_balancer_and_instances_are_in_subnets_of_their_own_in_two_zones(
    template: Template, egress: str
) -> None:
    stack = template.stack(Egress=egress, **bundle("a"))
    public, private = public_and_private(stack)
    assert not set(public) & set(private)
    for those in (public, private):
        assert len({subnets(stack)[one]["AvailabilityZone"] for one in those}) == 2


def test_subnets_lie_in_the_network_and_do_not_overlap(template: Template) -> None:
    stack = template.stack(VpcCidr="172.20.0.0/20")
    blocks = [ipaddress.ip_network(one["CidrBlock"]) for one in subnets(stack).values()]
    assert all(block.subnet_of(ipaddress.ip_network("172.20.0.0/20")) for block in blocks)  # type: ignore[arg-type]  # all are of version 4
    assert not any(one.overlaps(other) for one in blocks for other in blocks if one is not other)


@pytest.mark.parametrize("egress", EGRESS)
def test_the_balancer_reaches_the_internet_and_instances_only_through_a_gateway(
    template: Template, egress: str
) -> None:
    stack = template.stack(Egress=egress, **bundle("a"))
    public, private = public_and_private(stack)
    for subnet in public:
        (route,) = default_routes(stack, subnet)
        assert route["GatewayId"] == stack.ref("InternetGateway")
    for subnet in private:
        expected = [stack.ref("NatGateway")] if egress == "nat" else []
        assert [route.get("NatGatewayId") for route in default_routes(stack, subnet)] == expected


def test_no_instance_has_a_public_address(template: Template) -> None:
    (interface,) = launch_data(template.stack(**bundle("a")))["NetworkInterfaces"]
    assert interface["AssociatePublicIpAddress"] is False


def test_nat_is_one_gateway_in_a_public_subnet(template: Template) -> None:
    stack = template.stack(Egress="nat", **bundle("a"))
    (gateway,) = stack.of_type("AWS::EC2::NatGateway").values()
    assert gateway.properties["SubnetId"] in public_and_private(stack)[0]
    assert not interface_endpoints(stack)


@pytest.mark.parametrize(
    ("shell", "services"),
    [
        ("no", {"cloudformation", "monitoring"}),
        ("yes", {"cloudformation", "monitoring", "ssm", "ssmmessages"}),
    ],
)
def test_endpoints_are_those_of_the_services_that_instances_call(
    template: Template, shell: str, services: set[str]
) -> None:
    stack = template.stack(Egress="endpoints", SessionManager=shell, **bundle("a"))
    found = interface_endpoints(stack)
    assert found.keys() == services
    assert not stack.of_type("AWS::EC2::NatGateway")
    for endpoint in found.values():
        assert endpoint["PrivateDnsEnabled"] is True, "the SDK asks for the service's usual name"
        assert endpoint["SubnetIds"] == public_and_private(stack)[1]
        assert "PolicyDocument" not in endpoint


def test_names_of_endpoints_are_known_in_the_network(template: Template) -> None:
    vpc = template.stack().resources["Vpc"].properties
    assert (vpc["EnableDnsSupport"], vpc["EnableDnsHostnames"]) == (True, True)


def test_what_leads_to_the_internet_is_made_in_order(template: Template) -> None:
    stack = template.stack(Egress="nat", **bundle("a"))
    for name in ("PublicDefaultRoute", "NatAddress", "NatGateway"):
        assert "GatewayAttachment" in stack.before(name), name


def test_none_has_nothing_that_costs(template: Template) -> None:
    stack = template.stack(Egress="none", **bundle("a"))
    assert not stack.of_type("AWS::EC2::NatGateway")
    assert not stack.of_type("AWS::EC2::EIP")
    assert not interface_endpoints(stack)


@pytest.mark.parametrize("egress", EGRESS)
def test_nothing_is_paid_for_instances_before_there_are_any(template: Template, egress: str) -> None:
    stack = template.stack(Egress=egress)
    assert not stack.of_type("AWS::EC2::NatGateway")
    assert not stack.of_type("AWS::EC2::EIP")
    assert not interface_endpoints(stack)


@pytest.mark.parametrize("egress", EGRESS)
def test_instances_reach_s3_by_a_gateway_endpoint_that_costs_nothing(template: Template, egress: str) -> None:
    stack = template.stack(Egress=egress, **bundle("a"))
    endpoint = stack.resources["S3Endpoint"].properties
    assert (endpoint["VpcEndpointType"], endpoint["ServiceName"]) == (
        "Gateway",
        "com.amazonaws.eu-central-1.s3",
    )
    of_instances = {
        one.properties["RouteTableId"]
        for one in stack.of_type("AWS::EC2::SubnetRouteTableAssociation").values()
        if one.properties["SubnetId"] in public_and_private(stack)[1]
    }
    assert set(endpoint["RouteTableIds"]) == of_instances


@pytest.mark.parametrize(
    ("action", "resource", "may"),
    [
        ("s3:GetObject", "arn:aws:s3:::site-sitebucket/current/.s3sync/pointer.json", True),
        ("s3:ListBucket", "arn:aws:s3:::site-sitebucket", True),
        ("s3:GetObject", "arn:aws:s3:::al2023-repos-eu-central-1-de612dc2/core/mirrors/x", True),
        ("s3:PutObject", "arn:aws:s3:::al2023-repos-eu-central-1-de612dc2/core/mirrors/x", False),
        ("s3:GetObject", "arn:aws:s3:::another-bucket/x", False),
        ("s3:PutObject", "arn:aws:s3:::another-bucket/x", False),
    ],
)
def test_the_way_to_s3_leads_to_the_site_and_to_the_packages(
    template: Template, action: str, resource: str, may: bool
) -> None:
    """Packages are asked for by nobody in particular: there is no account that a condition could name."""
    statements = template.stack().resources["S3Endpoint"].properties["PolicyDocument"]["Statement"]
    assert all(statement["Principal"] == "*" for statement in statements)
    assert policies.allows(statements, Request(action, resource)) is may


def test_visitors_reach_the_balancer_and_only_the_balancer_reaches_instances(template: Template) -> None:
    stack = template.stack(Egress="endpoints", **bundle("a"))
    (group,) = launch_data(stack)["NetworkInterfaces"][0]["Groups"]
    assert group == stack.ref("InstanceSecurityGroup")
    (rule,) = stack.resources["InstanceSecurityGroup"].properties["SecurityGroupIngress"]
    assert (rule["FromPort"], rule["ToPort"]) == (80, 80)
    assert rule["SourceSecurityGroupId"] == stack.ref("LoadBalancerSecurityGroup")
    assert stack.resources["LoadBalancer"].properties["SecurityGroups"] == [
        stack.ref("LoadBalancerSecurityGroup")
    ]


@pytest.mark.parametrize(("network", "cidr"), [({}, "10.0.0.0/16"), (GIVEN_NETWORK, "0.0.0.0/0")])
def test_everybody_in_the_vpc_reaches_the_endpoints_which_its_dns_leads_them_to(
    template: Template, network: dict[str, str], cidr: str
) -> None:
    stack = template.stack(Egress="endpoints", **network, **bundle("a"))
    (rule,) = stack.resources["EndpointSecurityGroup"].properties["SecurityGroupIngress"]
    assert (rule["FromPort"], rule["ToPort"], rule["CidrIp"]) == (443, 443, cidr)


def test_the_balancer_sends_to_instances_wherever_a_given_vpc_has_them(template: Template) -> None:
    own = template.stack().resources["LoadBalancerSecurityGroup"].properties["SecurityGroupEgress"]
    assert [(rule["FromPort"], rule["CidrIp"]) for rule in own] == [(80, "10.0.0.0/16")]
    given = template.stack(**GIVEN_NETWORK).resources["LoadBalancerSecurityGroup"].properties
    assert "SecurityGroupEgress" not in given


def test_the_endpoint_to_s3_of_a_given_vpc_locks_nobody_else_out(template: Template) -> None:
    tables = {"PrivateRouteTableIds": "rtb-1,rtb-2"}
    endpoint = template.stack(**GIVEN_NETWORK, **tables).resources["S3Endpoint"].properties
    assert endpoint["RouteTableIds"] == ["rtb-1", "rtb-2"]
    assert "PolicyDocument" not in endpoint


@pytest.mark.parametrize(
    ("parameters", "ports"),
    [
        ({}, {80}),
        (
            {"DomainName": "www.example.com", "CertificateArn": "arn:aws:acm:eu-central-1:1:certificate/1"},
            {80, 443},
        ),
    ],
)
def test_the_balancer_is_open_where_it_listens(
    template: Template, parameters: dict[str, str], ports: set[int]
) -> None:
    stack = template.stack(**parameters)
    rules = stack.resources["LoadBalancerSecurityGroup"].properties["SecurityGroupIngress"]
    assert {rule["FromPort"] for rule in rules} == {rule["ToPort"] for rule in rules} == ports
    assert {
        listener.properties["Port"]
        for listener in stack.of_type("AWS::ElasticLoadBalancingV2::Listener").values()
    } == ports


def test_what_instances_send_is_tls(template: Template) -> None:
    rules = template.stack().resources["InstanceSecurityGroup"].properties["SecurityGroupEgress"]
    assert {(rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) for rule in rules} == {("tcp", 443, 443)}


@pytest.mark.parametrize("egress", EGRESS)
def test_a_given_network_is_used_and_nothing_is_added_to_it(template: Template, egress: str) -> None:
    stack = template.stack(Egress=egress, **GIVEN_NETWORK, **bundle("a"))
    assert public_and_private(stack) == (["subnet-1", "subnet-2"], ["subnet-3", "subnet-4"])
    assert stack.resources["TargetGroup"].properties["VpcId"] == "vpc-1"
    made = {resource.type for resource in stack.resources.values() if resource.type.startswith("AWS::EC2::")}
    endpoints = {"AWS::EC2::VPCEndpoint"} if egress == "endpoints" else set()
    assert made == {"AWS::EC2::LaunchTemplate", "AWS::EC2::SecurityGroup"} | endpoints


def test_a_given_network_gets_an_endpoint_to_s3_where_its_route_tables_are_given(template: Template) -> None:
    stack = template.stack(PrivateRouteTableIds="rtb-1,rtb-2", **GIVEN_NETWORK)
    assert stack.resources["S3Endpoint"].properties["RouteTableIds"] == ["rtb-1", "rtb-2"]
    assert "S3Endpoint" not in template.stack(**GIVEN_NETWORK).resources
