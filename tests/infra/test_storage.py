"""The site's bucket and the bucket of the balancer's logs."""

from __future__ import annotations

from typing import Any

import pytest

from s3sync_agent.layout import Site
from tests.infra import policies
from tests.infra.parts import attributes
from tests.infra.policies import Request
from tests.infra.template import ACCOUNT, Template

BUCKETS = ["SiteBucket", "LogBucket"]
KEY = "arn:aws:kms:eu-central-1:123456789012:key/9f8e7d6c"


def rules(template: Template) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        template.stack().resources["SiteBucket"].properties["LifecycleConfiguration"]["Rules"]
    )
    assert all(rule["Status"] == "Enabled" for rule in found)
    return found


def touching(template: Template, key: str) -> dict[str, Any]:
    """What becomes of an object: the properties of all rules for it."""
    return {
        name: value
        for rule in rules(template)
        if key.startswith(rule.get("Prefix", ""))
        for name, value in rule.items()
        if name not in {"Id", "Status", "Prefix"}
    }


@pytest.mark.parametrize("bucket", BUCKETS)
def test_nothing_is_public_and_everything_belongs_to_the_account(template: Template, bucket: str) -> None:
    properties = template.stack().resources[bucket].properties
    assert properties["PublicAccessBlockConfiguration"] == {
        "BlockPublicAcls": True,
        "BlockPublicPolicy": True,
        "IgnorePublicAcls": True,
        "RestrictPublicBuckets": True,
    }
    assert properties["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}


@pytest.mark.parametrize("bucket", BUCKETS)
def test_nobody_gets_in_without_tls(template: Template, bucket: str) -> None:
    stack = template.stack()
    statements = policies.of_bucket(stack, bucket)
    arn = stack.attribute(bucket, "Arn")
    for action, resource in (
        ("s3:GetObject", f"{arn}/x"),
        ("s3:ListBucket", arn),
        ("s3:PutBucketPolicy", arn),
    ):
        assert policies.denies(statements, Request(action, resource, {"aws:SecureTransport": "false"}))
        assert not policies.denies(statements, Request(action, resource, {"aws:SecureTransport": "true"}))


@pytest.mark.parametrize("bucket", BUCKETS)
def test_a_bucket_denies_for_no_other_reason(template: Template, bucket: str) -> None:
    """Denying by network or endpoint would lock the pipeline out."""
    denials = [one for one in policies.of_bucket(template.stack(), bucket) if one["Effect"] == "Deny"]
    assert [one["Condition"] for one in denials] == [{"Bool": {"aws:SecureTransport": "false"}}]


def test_the_site_is_encrypted_by_s3_or_with_a_given_key(template: Template) -> None:
    def encryption(**parameters: str) -> dict[str, Any]:
        bucket = template.stack(**parameters).resources["SiteBucket"]
        (rule,) = bucket.properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        return dict(rule)

    assert encryption() == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    assert encryption(KmsKeyArn=KEY) == {
        "ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY},
        "BucketKeyEnabled": True,
    }


def test_logs_are_encrypted_by_s3_whatever_the_site_is(template: Template) -> None:
    bucket = template.stack(KmsKeyArn=KEY).resources["LogBucket"]
    (rule,) = bucket.properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}


def test_the_site_s_bucket_outlives_the_stack_but_not_a_creation_that_failed(template: Template) -> None:
    bucket = template.stack().resources["SiteBucket"]
    assert bucket.attributes["DeletionPolicy"] == "RetainExceptOnCreate"
    assert bucket.attributes["UpdateReplacePolicy"] == "Retain"


def test_the_log_bucket_outlives_everything_because_it_is_never_empty(template: Template) -> None:
    bucket = template.stack().resources["LogBucket"]
    assert bucket.attributes["DeletionPolicy"] == bucket.attributes["UpdateReplacePolicy"] == "Retain"


def test_the_site_s_bucket_has_the_name_that_was_given(template: Template) -> None:
    assert template.stack(BucketName="my-site").resources["SiteBucket"].properties["BucketName"] == "my-site"
    assert "BucketName" not in template.stack().resources["SiteBucket"].properties


def test_versions_are_kept_for_a_while(template: Template) -> None:
    site = Site("site-sitebucket")
    assert template.stack().resources["SiteBucket"].properties["VersioningConfiguration"] == {
        "Status": "Enabled"
    }
    for key in (site.pointer, f"{site.current}index.html", site.manifest("v1")):
        assert touching(template, key)["NoncurrentVersionExpiration"]["NoncurrentDays"] == 30


def test_heartbeats_leave_no_heap_of_versions_and_vanish_with_their_instances(template: Template) -> None:
    heartbeat = touching(template, Site("b").heartbeat("AROAEXAMPLE:i-1"))
    assert heartbeat["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert heartbeat["ExpirationInDays"] == 7


def test_no_object_that_is_current_expires_but_heartbeats(template: Template) -> None:
    assert [rule["Prefix"] for rule in rules(template) if "ExpirationInDays" in rule] == [Site("b").fleet]


def test_bundles_stay_for_ever_because_old_launch_templates_name_them(template: Template) -> None:
    assert touching(
        template, Site("b").bundle("s3sync-agent-0.1.0-cp312-aarch64-aaaaaaaaaaaa.pyz")
    ).keys() == {"AbortIncompleteMultipartUpload"}


def test_uploads_that_nobody_finished_go_away(template: Template) -> None:
    for key in ("releases/v1/x", "current/x", "agent/x"):
        assert touching(template, key)["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}


def test_the_balancer_may_write_its_logs_and_nobody_else_may_write_anything(template: Template) -> None:
    stack = template.stack()
    (statement,) = [one for one in policies.of_bucket(stack, "LogBucket") if one["Effect"] == "Allow"]
    balancer = attributes(stack.resources["LoadBalancer"].properties["LoadBalancerAttributes"])
    assert balancer["access_logs.s3.bucket"] == stack.ref("LogBucket")
    assert statement["Principal"] == {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"}
    assert statement["Action"] == "s3:PutObject"
    prefix = balancer["access_logs.s3.prefix"]
    assert statement["Resource"] == f"{stack.attribute('LogBucket', 'Arn')}/{prefix}/AWSLogs/{ACCOUNT}/*"
    asked = Request("s3:PutObject", statement["Resource"], {"aws:SourceArn": stack.ref("LoadBalancer")})
    assert policies.allows([statement], asked)
    stranger = stack.ref("LoadBalancer").replace(ACCOUNT, "999999999999")
    assert not policies.allows(
        [statement], Request(asked.action, asked.resource, {"aws:SourceArn": stranger})
    )


def test_logs_do_not_pile_up(template: Template) -> None:
    (rule,) = template.stack().resources["LogBucket"].properties["LifecycleConfiguration"]["Rules"]
    assert (rule["Status"], rule["ExpirationInDays"]) == ("Enabled", 90)
    assert "Prefix" not in rule
