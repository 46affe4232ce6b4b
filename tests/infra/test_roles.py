"""Who may take the roles. What they may do then is in test_contract.py."""

from __future__ import annotations

import pytest

from tests.infra.given import EVERYTHING, OIDC_PROVIDER, bundle
from tests.infra.template import Refused, Template

GITHUB = "token.actions.githubusercontent.com"


def test_instances_take_theirs_through_ec2_and_nobody_else_does(template: Template) -> None:
    stack = template.stack(**bundle("a"))
    (statement,) = stack.resources["InstanceRole"].properties["AssumeRolePolicyDocument"]["Statement"]
    assert statement == {
        "Effect": "Allow",
        "Principal": {"Service": "ec2.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    profile = stack.resources["InstanceProfile"]
    assert profile.properties["Roles"] == [stack.ref("InstanceRole")]


def test_jobs_of_one_environment_of_one_repository_take_the_deploy_role(template: Template) -> None:
    stack = template.stack(GitHubRepository="owner/name", GitHubEnvironment="live")
    (statement,) = stack.resources["DeployRole"].properties["AssumeRolePolicyDocument"]["Statement"]
    assert statement == {
        "Effect": "Allow",
        "Principal": {"Federated": stack.ref("OidcProvider")},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {
            "StringEquals": {
                f"{GITHUB}:aud": "sts.amazonaws.com",
                f"{GITHUB}:sub": "repo:owner/name:environment:live",
            }
        },
    }


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("GitHubRepository", "owner/*"),
        ("GitHubRepository", "*/*"),
        ("GitHubRepository", "owner"),
        ("GitHubRepository", "owner/name:ref:refs/heads/x"),
        ("GitHubEnvironment", "*"),
        ("GitHubEnvironment", ""),
    ],
)
def test_a_pattern_is_no_repository(template: Template, parameter: str, value: str) -> None:
    with pytest.raises(Refused):
        template.stack(**{"GitHubRepository": "owner/name", parameter: value})


def test_the_identity_provider_is_made_where_none_was_given(template: Template) -> None:
    provider = template.stack(GitHubRepository="owner/name").resources["OidcProvider"]
    assert provider.properties == {"Url": f"https://{GITHUB}", "ClientIdList": ["sts.amazonaws.com"]}
    kept = "an account has one, and others may use it; but a creation that failed must not stop the next"
    assert provider.attributes["DeletionPolicy"] == "RetainExceptOnCreate", kept
    given = template.stack(GitHubRepository="owner/name", GitHubOidcProviderArn=OIDC_PROVIDER)
    assert "OidcProvider" not in given.resources
    (statement,) = given.resources["DeployRole"].properties["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Federated": OIDC_PROVIDER}


def test_without_a_repository_there_is_no_role_for_one(template: Template) -> None:
    stack = template.stack()
    assert stack.of_type("AWS::IAM::Role").keys() == {"InstanceRole"}
    assert "OidcProvider" not in stack.resources


def test_a_boundary_bounds_both_roles(template: Template) -> None:
    boundary = "arn:aws:iam::123456789012:policy/boundary"
    roles = template.stack(PermissionsBoundaryArn=boundary, GitHubRepository="o/r").of_type("AWS::IAM::Role")
    assert {role.properties["PermissionsBoundary"] for role in roles.values()} == {boundary}
    assert "PermissionsBoundary" not in template.stack().resources["InstanceRole"].properties


def test_a_job_has_the_role_for_an_hour_at_most(template: Template) -> None:
    role = template.stack(GitHubRepository="owner/name").resources["DeployRole"]
    assert role.properties["MaxSessionDuration"] == 3600


def test_there_is_no_secret_anywhere(template: Template) -> None:
    kinds = {resource.type for resource in template.stack(**EVERYTHING).resources.values()}
    assert not kinds & {"AWS::IAM::User", "AWS::IAM::AccessKey", "AWS::SecretsManager::Secret"}
    assert not [name for name, spec in template.parameters.items() if spec.get("NoEcho")]


def test_no_name_is_fixed_so_that_two_stacks_fit_into_one_account(template: Template) -> None:
    for name, resource in template.stack(**EVERYTHING).resources.items():
        fixed = {
            "RoleName",
            "PolicyName",
            "TopicName",
            "AlarmName",
            "LaunchTemplateName",
            "AutoScalingGroupName",
            "GroupName",
            "InstanceProfileName",
            "DashboardName",
            "BucketName",
        } & resource.properties.keys()
        assert not fixed - ({"AutoScalingGroupName"} if name == "CpuScaling" else set()), name
