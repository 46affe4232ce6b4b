"""Would IAM allow it? For policies as the template has them: a small part of IAM, and an error for the rest.

A request is allowed when a statement allows it and none denies it. Asked by `Request`: an action, a resource,
and the condition keys that AWS would know about the request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.infra.template import Resource, Stack

Statement = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """`context` holds condition keys of this request; a key that AWS does not set is not in it."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        prefix = self.context.get("s3:prefix")
        return f"{self.action} {self.resource}" + ("" if prefix is None else f" (prefix {prefix!r})")


def allows(statements: Iterable[Statement], request: Request) -> bool:
    effects = {statement["Effect"] for statement in statements if _applies(statement, request)}
    return effects == {"Allow"}


def of_role(role: Resource) -> list[Statement]:
    """The statements of a role's own policies."""
    return [
        statement
        for policy in role.properties.get("Policies", [])
        for statement in listed(policy["PolicyDocument"]["Statement"])
    ]


def of_bucket(stack: Stack, bucket: str) -> list[Statement]:
    (policy,) = [
        resource
        for resource in stack.of_type("AWS::S3::BucketPolicy").values()
        if resource.properties["Bucket"] == stack.ref(bucket)
    ]
    return listed(policy.properties["PolicyDocument"]["Statement"])


def denies(statements: Iterable[Statement], request: Request) -> bool:
    return any(one["Effect"] == "Deny" and _applies(one, request) for one in statements)


def _applies(statement: Statement, request: Request) -> bool:
    known = {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
    if unknown := statement.keys() - known:
        raise NotImplementedError(f"a statement with {', '.join(sorted(unknown))}")
    return (
        any(_like(pattern.lower(), request.action.lower()) for pattern in listed(statement["Action"]))
        and any(
            _like(_substituted(pattern, request), request.resource)
            for pattern in listed(statement["Resource"])
        )
        and all(
            _condition(operator, key, expected, request)
            for operator, keys in statement.get("Condition", {}).items()
            for key, expected in keys.items()
        )
    )


def _condition(operator: str, key: str, expected: Any, request: Request) -> bool:
    """A key that the request does not have matches nothing."""
    tests: dict[str, Callable[[str, str], bool]] = {
        "ArnLike": _like,
        "Bool": lambda pattern, value: pattern.lower() == value.lower(),
        "StringEquals": lambda pattern, value: pattern == value,
        "StringLike": _like,
    }
    if operator not in tests:
        raise NotImplementedError(f"the condition operator {operator}")
    value = {name.lower(): value for name, value in request.context.items()}.get(key.lower())
    if value is None:
        return False
    return any(tests[operator](_substituted(str(one), request), value) for one in listed(expected))


def _substituted(pattern: str, request: Request) -> str:
    """Policy variables in place; what IAM does not know about the request matches nothing."""

    def value(match: re.Match[str]) -> str:
        return request.context.get(match[1], "\0")

    return re.sub(r"\$\{([^}]+)\}", value, pattern)


def _like(pattern: str, value: str) -> bool:
    parts = ({"*": ".*", "?": "."}.get(character) or re.escape(character) for character in pattern)
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None


def listed(one_or_more: Any) -> list[Any]:
    return one_or_more if isinstance(one_or_more, list) else [one_or_more]
