"""What `policies.py` says of a policy is what IAM would."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.policies import Request, allows

OWN = "arn:aws:s3:::b/fleet/AROA1:i-1.json"


def allow(action: Any = "s3:GetObject", resource: Any = "*", effect: str = "Allow", **more: Any) -> Any:
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        (allow(), True),
        (allow(effect="Deny"), False),
        (allow("s3:getobject"), True),
        (allow("s3:Get*"), True),
        (allow(["s3:PutObject", "s3:GetObject"]), True),
        (allow("s3:GetObjectVersion"), False),
        (allow(resource="arn:aws:s3:::b/*"), True),
        (allow(resource="arn:aws:s3:::b"), False),
        (allow(resource="arn:aws:s3:::b/fleet/*.json"), True),
        (allow(resource="arn:aws:s3:::b/fleet/AROA?:i-1.json"), True),
        (allow(resource="arn:aws:s3:::b/fleet/${aws:userid}.json"), True),
        (allow(resource="arn:aws:s3:::b/fleet/${aws:username}.json"), False),
        (allow(Condition={"StringEquals": {"s3:prefix": "a/b"}}), True),
        (allow(Condition={"StringEquals": {"s3:prefix": "a/*"}}), False),
        (allow(Condition={"StringLike": {"s3:prefix": ["x/*", "a/*"]}}), True),
        (allow(Condition={"StringLike": {"S3:Prefix": "a/*"}}), True),
        (allow(Condition={"StringLike": {"s3:delimiter": "*"}}), False),
        (
            allow(Condition={"StringLike": {"s3:prefix": "a/*"}, "Bool": {"aws:SecureTransport": "false"}}),
            False,
        ),
        (allow(Condition={"Bool": {"aws:SecureTransport": True}}), True),
    ],
)
def test_one_statement(statement: Any, allowed: bool) -> None:
    context = {"aws:userid": "AROA1:i-1", "s3:prefix": "a/b", "aws:SecureTransport": "true"}
    assert allows([statement], Request("s3:GetObject", OWN, context)) is allowed


def test_nothing_is_allowed_without_a_statement() -> None:
    assert not allows([], Request("s3:GetObject", OWN))


def test_one_denial_outweighs_any_number_of_statements() -> None:
    statements = [allow(), allow(), allow(effect="Deny", resource="arn:aws:s3:::b/fleet/*")]
    assert not allows(statements, Request("s3:GetObject", OWN))
    assert allows(statements, Request("s3:GetObject", "arn:aws:s3:::b/current/x"))


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"},
        allow(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}),
    ],
)
def test_what_is_not_known_here_is_an_error(statement: Any) -> None:
    with pytest.raises(NotImplementedError):
        allows([statement], Request("s3:GetObject", OWN))
