"""Parameters, rules and outputs: what people see of the template."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest
from click import Context

from s3sync_agent.cli.operator import main as s3sync
from s3sync_agent.layout import parse_site
from tests.infra.given import EVERYTHING, bundle
from tests.infra.template import Refused, Template

CERTIFICATE = "arn:aws:acm:eu-central-1:123456789012:certificate/1"
SUBNETS = {"PublicSubnetIds": "subnet-1,subnet-2", "PrivateSubnetIds": "subnet-3,subnet-4"}

# Rule: parameters that it refuses, and such that are the same but right.
RULES: dict[str, list[tuple[dict[str, str], dict[str, str]]]] = {
    "BundleIsPinned": [
        ({"AgentBundle": bundle("a")["AgentBundle"]}, bundle("a")),
        ({"AgentBundleSha256": "a" * 64}, bundle("a")),
    ],
    "UpdatesNeedRoom": [
        ({"MinInstances": "4", "MaxInstances": "4"}, {"MinInstances": "4", "MaxInstances": "5"}),
        ({"MinInstances": "4"}, {"MinInstances": "3"}),
    ],
    "DomainNeedsCertificate": [
        ({"DomainName": "www.example.com"}, {"DomainName": "www.example.com", "CertificateArn": CERTIFICATE}),
    ],
    "CertificateNeedsDomain": [
        ({"CertificateArn": CERTIFICATE}, {"DomainName": "www.example.com", "CertificateArn": CERTIFICATE}),
        ({"HostedZoneId": "Z1"}, {"DomainName": "www.example.com", "HostedZoneId": "Z1"}),
    ],
    "GivenVpcNeedsSubnets": [
        ({"VpcId": "vpc-1"}, {"VpcId": "vpc-1", **SUBNETS}),
        ({"VpcId": "vpc-1", "PublicSubnetIds": "subnet-1"}, {"VpcId": "vpc-1", **SUBNETS}),
    ],
    "SubnetsNeedVpc": [
        (SUBNETS, {"VpcId": "vpc-1", **SUBNETS}),
        ({"PrivateRouteTableIds": "rtb-1"}, {"VpcId": "vpc-1", "PrivateRouteTableIds": "rtb-1", **SUBNETS}),
    ],
    "ShellNeedsEgress": [
        ({"SessionManager": "yes", "Egress": "none"}, {"SessionManager": "yes", "Egress": "endpoints"}),
    ],
}
CASES = [(rule, *case) for rule, cases in RULES.items() for case in cases]


def references(node: Any) -> set[str]:
    """Every name that is referred to below a node: parameters, resources and conditions."""
    if isinstance(node, list):
        return set().union(*map(references, node))
    if not isinstance(node, dict):
        return set()
    found = set().union(*map(references, node.values()))
    if "Ref" in node:
        found.add(node["Ref"])
    if "Fn::Sub" in node:
        text = node["Fn::Sub"] if isinstance(node["Fn::Sub"], str) else node["Fn::Sub"][0]
        found |= set(re.findall(r"\$\{([A-Za-z0-9]+)\}", text))
    if isinstance(node.get("Condition"), str):
        found.add(node["Condition"])
    if "Fn::If" in node:
        found.add(node["Fn::If"][0])
    return found


# ------------------------------------------------------------------------------ parameters


def test_the_defaults_are_a_stack(template: Template) -> None:
    assert all("Default" in spec for spec in template.parameters.values())
    template.stack()


def test_by_default_nobody_gets_a_right_that_was_not_asked_for(template: Template) -> None:
    defaults = {name: spec["Default"] for name, spec in template.parameters.items()}
    assert (defaults["AllowPruning"], defaults["SessionManager"]) == ("no", "no")
    assert (defaults["GitHubRepository"], defaults["GitHubEnvironment"]) == ("", "production")


def test_every_parameter_is_used_and_described_by_a_sentence(template: Template) -> None:
    """Rules alone are no use of one."""
    used = references({key: template.raw[key] for key in ("Conditions", "Resources", "Outputs")})
    assert not template.parameters.keys() - used
    for name, spec in template.parameters.items():
        assert re.fullmatch(r"[A-Z].*\.", spec["Description"], re.DOTALL), name


def test_every_parameter_stands_in_one_group(template: Template) -> None:
    groups = template.raw["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    listed = [name for group in groups for name in group["Parameters"]]
    assert sorted(listed) == sorted(template.parameters)
    assert all(group["Label"]["default"] for group in groups)


def test_every_condition_is_used(template: Template) -> None:
    used = references([template.raw["Conditions"], template.raw["Resources"], template.raw["Outputs"]])
    assert not template.raw["Conditions"].keys() - used


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("AgentBundle", "s3sync-agent.pyz"),
        ("AgentBundle", "../s3sync-agent-0.1.0-cp312-aarch64-aaaaaaaaaaaa.pyz"),
        ("AgentBundle", "s3sync-agent-0.1.0-cp312-aarch64-aaaaaaaaaaaa.pyz; reboot"),
        ("AgentBundleSha256", "abc"),
        ("AgentPython", "3.12; reboot"),
        ("Architecture", "riscv"),
        ("Egress", "vpn"),
        ("MinInstances", "0"),
        ("VolumeSize", "1"),
    ],
)
def test_what_cannot_work_is_refused_at_once(template: Template, parameter: str, value: str) -> None:
    with pytest.raises(Refused, match=parameter):
        template.stack(**{**bundle("a"), parameter: value})


# ------------------------------------------------------------------------------------ rules


def test_every_rule_is_tried(template: Template) -> None:
    assert template.raw["Rules"].keys() == RULES.keys()


@pytest.mark.parametrize(("rule", "bad", "good"), CASES)
def test_a_rule_refuses_what_contradicts(
    template: Template, rule: str, bad: dict[str, str], good: dict[str, str]
) -> None:
    template.stack(**good)
    sentences = [one["AssertDescription"] for one in template.raw["Rules"][rule]["Assertions"]]
    with pytest.raises(Refused) as refused:
        template.stack(**bad)
    assert str(refused.value) in sentences
    assert all(sentence.endswith(".") for sentence in sentences)


# ---------------------------------------------------------------------------------- outputs


def test_outputs_are_described_and_none_is_exported(template: Template) -> None:
    """An export would tie other stacks to this one's life."""
    for name, output in template.raw["Outputs"].items():
        assert re.fullmatch(r"[A-Z].*\.", output["Description"]), name
        assert "Export" not in output, name


def test_outputs_exist_as_far_as_what_they_name_does(template: Template) -> None:
    everything = template.stack(**EVERYTHING).outputs.keys()
    assert everything == template.raw["Outputs"].keys()
    assert everything - template.stack().outputs.keys() == {"AutoScalingGroupName", "DeployRoleArn"}


@pytest.mark.parametrize(
    ("parameters", "url"),
    [
        ({}, "http://site-loadbalancer.example.com/"),
        ({"DomainName": "www.example.com", "HostedZoneId": "Z1"}, "https://www.example.com/"),
    ],
)
def test_the_url_is_that_of_the_site(template: Template, parameters: dict[str, str], url: str) -> None:
    assert template.stack(**parameters).outputs["SiteUrl"] == url


@pytest.mark.parametrize("egress", ["nat", "none"])
def test_the_group_s_name_is_that_of_the_group_there_is(template: Template, egress: str) -> None:
    stack = template.stack(Egress=egress, **bundle("a"))
    (name,) = stack.of_type("AWS::AutoScaling::AutoScalingGroup")
    assert stack.outputs["AutoScalingGroupName"] == stack.ref(name)


def test_the_site_is_the_bucket(template: Template) -> None:
    stack = template.stack()
    site = parse_site(stack.outputs["Site"])
    assert (site.bucket, site.prefix) == (stack.ref("SiteBucket"), "")
    assert stack.outputs["SiteBucket"] == stack.ref("SiteBucket")


@pytest.mark.parametrize("output", ["PublishCommand", "PromoteCommand"])
def test_the_commands_are_commands(template: Template, output: str) -> None:
    """As far as `s3sync` itself can tell without running them."""
    program, command, *arguments = shlex.split(template.stack().outputs[output])
    assert program == "s3sync"
    found = s3sync.get_command(Context(s3sync), command)
    assert found is not None
    with found.make_context(command, [word.replace("FOLDER", ".") for word in arguments]) as context:
        assert context.params["site"] is not None


def test_the_next_step_is_said(template: Template) -> None:
    assert "AgentBundle" in template.stack().outputs["NextStep"]
    assert "AgentBundle" not in template.stack(**bundle("a")).outputs["NextStep"]


def test_what_is_made_can_be_read_as_json(template: Template) -> None:
    json.dumps(template.stack(**EVERYTHING).body())
