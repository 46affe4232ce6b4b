"""A CloudFormation template with parameters filled in: what CloudFormation would go on to create.

    template = Template.read(path)
    stack = template.stack(Egress="none")
    stack.resources["AutoScalingGroup"].properties["MinSize"]

Everything that can be known before anything exists is resolved. What only a created resource knows is a
made-up but well-formed value, the same wherever it is referred to: `stack.ref` and `stack.attribute`
give it to tests. Whatever CloudFormation would refuse (parameters, rules, a reference to a resource whose
condition is false) is refused here, and what this does not know is an error, never passed over.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from cfnlint.decode import decode

ACCOUNT = "123456789012"
REGION = "eu-central-1"
PSEUDO_PARAMETERS: Mapping[str, Any] = {
    "AWS::AccountId": ACCOUNT,
    "AWS::NotificationARNs": [],
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/site/6a3f1d20",
    "AWS::StackName": "site",
    "AWS::URLSuffix": "amazonaws.com",
}
_NO_VALUE = object()


class Refused(Exception):
    """CloudFormation would not take these parameters; says why, a sentence each."""


class InvalidTemplate(Exception):
    """CloudFormation would not take this template, or this module does not know what it says."""


@dataclass(frozen=True, slots=True)
class Resource:
    """`properties` and `attributes` (everything beside them) are resolved. `needs` are the resources that
    CloudFormation creates before: those that it depends on by word, and those it refers to, also in metadata.
    """

    type: str
    properties: dict[str, Any]
    attributes: dict[str, Any]
    needs: frozenset[str]


@dataclass(frozen=True, slots=True)
class Stack:
    parameters: dict[str, Any]
    conditions: dict[str, bool]
    resources: dict[str, Resource]
    outputs: dict[str, Any]
    _resolver: _Resolver

    def ref(self, name: str) -> Any:
        return self._resolver.ref(name)

    def attribute(self, name: str, attribute: str) -> Any:
        return self._resolver.get_att([name, attribute])

    def before(self, name: str) -> set[str]:
        """All that has been created when the creation of this one begins."""
        found: set[str] = set()
        new = self.resources[name].needs
        while new:
            found |= new
            new = frozenset().union(*(self.resources[one].needs for one in new)) - found
        return found

    def of_type(self, kind: str) -> dict[str, Resource]:
        return {name: resource for name, resource in self.resources.items() if resource.type == kind}

    def body(self) -> dict[str, Any]:
        """As a template of its own, without parameters, conditions and functions."""
        return {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Resources": {
                name: {"Type": resource.type, "Properties": resource.properties, **resource.attributes}
                for name, resource in self.resources.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Template:
    text: str
    raw: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Template:
        raw, errors = decode(str(path))
        if errors or raw is None:
            raise InvalidTemplate("; ".join(str(error) for error in errors))
        # Without the parser's line numbers; a date in a policy is the text it was.
        return cls(path.read_text(), json.loads(json.dumps(raw, default=str)))

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.raw.get("Parameters", {})
        return found

    def stack(self, **parameters: str) -> Stack:
        """Raises Refused or InvalidTemplate."""
        values = self._values(parameters)
        resolver = _Resolver(self.raw, {**PSEUDO_PARAMETERS, **values})
        if broken := list(resolver.broken_rules()):
            raise Refused("; ".join(broken))
        resources = dict(self._resources(resolver))
        outputs = {
            name: resolver.resolve(output["Value"])
            for name, output in self.raw.get("Outputs", {}).items()
            if resolver.holds(output)
        }
        try:
            TopologicalSorter({name: one.needs for name, one in resources.items()}).prepare()
        except CycleError as error:
            raise InvalidTemplate(f"a circle: {' → '.join(error.args[1])}") from None
        return Stack(values, resolver.all_conditions(), resources, outputs, resolver)

    def _values(self, given: Mapping[str, str]) -> dict[str, Any]:
        if unknown := given.keys() - self.parameters.keys():
            raise Refused(f"there is no parameter {', '.join(sorted(unknown))}")
        return {name: _value(name, spec, given) for name, spec in self.parameters.items()}

    def _resources(self, resolver: _Resolver) -> Iterator[tuple[str, Resource]]:
        for name, resource in self.raw["Resources"].items():
            if not resolver.holds(resource):
                continue
            resolver.referred.clear()
            rest = {key: value for key, value in resource.items() if key not in _NO_ATTRIBUTES}
            attributes = resolver.resolve(rest)
            named = attributes.get("DependsOn", [])
            for other in [named] if isinstance(named, str) else named:
                resolver.ref(other)  # whether it exists
            properties = resolver.resolve(resource.get("Properties", {}))
            resolver.resolve(resource.get("Metadata", {}))
            yield name, Resource(resource["Type"], properties, attributes, frozenset(resolver.referred))


_NO_ATTRIBUTES = {"Type", "Properties", "Condition", "Metadata"}


def _value(name: str, spec: Mapping[str, Any], given: Mapping[str, str]) -> Any:
    if name not in given and "Default" not in spec:
        raise Refused(f"{name} has no default and was not given")
    value = str(given.get(name, spec.get("Default")))
    allowed = [str(one) for one in spec.get("AllowedValues", [])]
    if allowed and value not in allowed:
        raise Refused(f"{name} is {value!r}, none of {', '.join(allowed)}")
    kind: str = spec["Type"]
    if kind == "Number":
        _check_number(name, value, spec)
    pattern = spec.get("AllowedPattern")
    if pattern is not None and not re.fullmatch(pattern, value):
        raise Refused(f"{name} is {value!r}: {spec.get('ConstraintDescription', pattern)}")
    if not int(spec.get("MinLength", 0)) <= len(value) <= int(spec.get("MaxLength", 4096)):
        raise Refused(f"{name} has {len(value)} characters")
    if kind.startswith("AWS::SSM::Parameter::Value<"):
        return f"(value of {value})"
    if kind == "CommaDelimitedList" or kind.startswith("List<"):
        return [part.strip() for part in value.split(",")]
    return value


def _check_number(name: str, value: str, spec: Mapping[str, Any]) -> None:
    try:
        number = float(value)
    except ValueError:
        raise Refused(f"{name} is {value!r}, not a number") from None
    if not float(spec.get("MinValue", "-inf")) <= number <= float(spec.get("MaxValue", "inf")):
        raise Refused(f"{name} is {value}, beyond its limits")


@dataclass
class _Resolver:
    """Resolves functions. `values` are those of parameters and pseudo parameters, `referred` the resources
    that have been referred to since somebody cleared it."""

    raw: Mapping[str, Any]
    values: Mapping[str, Any]
    referred: set[str] = field(default_factory=set)
    _conditions: dict[str, bool] = field(default_factory=dict)

    def resolve(self, node: Any) -> Any:
        if isinstance(node, dict):
            if len(node) == 1:
                ((name, argument),) = node.items()
                if name == "Ref" or name.startswith("Fn::"):
                    return self._call(name, argument)
            resolved = {key: self.resolve(value) for key, value in node.items()}
            return {key: value for key, value in resolved.items() if value is not _NO_VALUE}
        if isinstance(node, list):
            every = [self.resolve(one) for one in node]
            return [value for value in every if value is not _NO_VALUE]
        return node

    def _call(self, name: str, argument: Any) -> Any:
        functions: dict[str, Callable[[Any], Any]] = {
            "Ref": self.ref,
            "Fn::Base64": lambda text: base64.b64encode(self.resolve(text).encode()).decode(),
            "Fn::Cidr": self._cidr,
            "Fn::FindInMap": self._find_in_map,
            "Fn::GetAZs": lambda region: [f"{self.resolve(region) or REGION}{zone}" for zone in "abc"],
            "Fn::GetAtt": self.get_att,
            "Fn::If": lambda parts: self.resolve(parts[1 if self.condition(parts[0]) else 2]),
            "Fn::Join": lambda parts: self.resolve(parts[0]).join(map(str, self.resolve(parts[1]))),
            "Fn::Select": lambda parts: self.resolve(parts[1])[int(self.resolve(parts[0]))],
            "Fn::Split": lambda parts: self.resolve(parts[1]).split(self.resolve(parts[0])),
            "Fn::Sub": self._sub,
            # In rules only.
            "Fn::RefAll": lambda kind: [
                self.values[name]
                for name, spec in self.raw.get("Parameters", {}).items()
                if spec["Type"] == kind
            ],
        }
        if name not in functions:
            raise InvalidTemplate(f"{name} is not known here")
        return functions[name](argument)

    def ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NO_VALUE
        if name in self.values:
            return self.values[name]
        return _reference(name, self._existing_type(name))

    def get_att(self, argument: list[str] | str) -> Any:
        name, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
        return _attribute(name, self._existing_type(name), attribute)

    def _existing_type(self, name: str) -> str:
        resource = self.raw["Resources"].get(name)
        if resource is None:
            raise InvalidTemplate(f"there is no {name}")
        if not self.holds(resource):
            raise InvalidTemplate(
                f"{name} is referred to and does not exist: {resource['Condition']} is false"
            )
        self.referred.add(name)
        kind: str = resource["Type"]
        return kind

    def _sub(self, argument: str | list[Any]) -> str:
        text, own = (argument, {}) if isinstance(argument, str) else (argument[0], self.resolve(argument[1]))

        def value(match: re.Match[str]) -> str:
            name = match[1].strip()
            if name.startswith("!"):
                return f"${{{name[1:]}}}"
            if name in own:
                return str(own[name])
            found = self.get_att(name) if "." in name else self.ref(name)
            if not isinstance(found, str):
                raise InvalidTemplate(f"Fn::Sub of {name}, which is no text")
            return found

        return re.sub(r"\$\{([^}]+)\}", value, text)

    def _cidr(self, argument: list[Any]) -> list[str]:
        block, count, host_bits = (self.resolve(part) for part in argument)
        subnets = ipaddress.ip_network(block).subnets(new_prefix=32 - int(host_bits))
        return [str(subnet) for subnet, _ in zip(subnets, range(int(count)), strict=False)]

    def _find_in_map(self, argument: list[Any]) -> Any:
        table, first, second = (self.resolve(part) for part in argument)
        return self.resolve(self.raw["Mappings"][table][first][second])

    # Conditions

    def holds(self, node: Mapping[str, Any]) -> bool:
        return "Condition" not in node or self.condition(node["Condition"])

    def condition(self, name: str) -> bool:
        if name not in self._conditions:
            if name not in self.raw.get("Conditions", {}):
                raise InvalidTemplate(f"there is no condition {name}")
            self._conditions[name] = self._is_true(self.raw["Conditions"][name])
        return self._conditions[name]

    def all_conditions(self) -> dict[str, bool]:
        return {name: self.condition(name) for name in self.raw.get("Conditions", {})}

    def _is_true(self, node: Mapping[str, Any]) -> bool:
        ((name, argument),) = node.items()
        match name:
            case "Condition":
                return self.condition(argument)
            case "Fn::And":
                return all(self._is_true(one) for one in argument)
            case "Fn::Or":
                return any(self._is_true(one) for one in argument)
            case "Fn::Not":
                return not self._is_true(argument[0])
            case "Fn::Equals":
                one, other = (self.resolve(part) for part in argument)
                return str(one) == str(other)
            case "Fn::Contains":  # this one and the next two in rules only
                return self.resolve(argument[1]) in self.resolve(argument[0])
            case "Fn::EachMemberEquals":
                return all(one == self.resolve(argument[1]) for one in self.resolve(argument[0]))
            case "Fn::EachMemberIn":
                return all(one in self.resolve(argument[1]) for one in self.resolve(argument[0]))
        raise InvalidTemplate(f"{name} is no condition known here")

    def broken_rules(self) -> Iterator[str]:
        for rule in self.raw.get("Rules", {}).values():
            if "RuleCondition" in rule and not self._is_true(rule["RuleCondition"]):
                continue
            for assertion in rule["Assertions"]:
                if not self._is_true(assertion["Assert"]):
                    yield assertion["AssertDescription"]


# What a created resource would be called. Names where AWS gives names, ARNs where it gives ARNs.

_BALANCING = "elasticloadbalancing:{region}:{account}"
_ARN_BY_REF = {
    "AWS::CertificateManager::Certificate": "acm:{region}:{account}:certificate/{name}",
    "AWS::ElasticLoadBalancingV2::Listener": _BALANCING + ":listener/app/{name}/1/2",
    "AWS::ElasticLoadBalancingV2::LoadBalancer": _BALANCING + ":loadbalancer/app/{name}/1",
    "AWS::ElasticLoadBalancingV2::TargetGroup": _BALANCING + ":targetgroup/{name}/1",
    "AWS::IAM::ManagedPolicy": "iam::{account}:policy/{name}",
    "AWS::IAM::OIDCProvider": "iam::{account}:oidc-provider/token.actions.githubusercontent.com",
    "AWS::SNS::Topic": "sns:{region}:{account}:{name}",
}
_ARN_BY_ATTRIBUTE = {
    "AWS::IAM::InstanceProfile": "iam::{account}:instance-profile/{name}",
    "AWS::IAM::Role": "iam::{account}:role/{name}",
    "AWS::KMS::Key": "kms:{region}:{account}:key/{name}",
    "AWS::Logs::LogGroup": "logs:{region}:{account}:log-group:{name}:*",
    "AWS::S3::Bucket": "s3:::{name}",
}


def _name(logical_id: str) -> str:
    return f"site-{logical_id.lower()}"


def _arn(form: str, logical_id: str) -> str:
    return "arn:aws:" + form.format(region=REGION, account=ACCOUNT, name=_name(logical_id))


def _reference(logical_id: str, kind: str) -> str:
    return _arn(_ARN_BY_REF[kind], logical_id) if kind in _ARN_BY_REF else _name(logical_id)


def _attribute(logical_id: str, kind: str, attribute: str) -> str:
    if attribute == "Arn" and kind in _ARN_BY_ATTRIBUTE:
        return _arn(_ARN_BY_ATTRIBUTE[kind], logical_id)
    if kind == "AWS::IAM::Role" and attribute == "RoleId":
        return f"AROA{logical_id.upper():X<17.17}"
    if attribute.endswith(("DNSName", "DomainName")):
        return f"{_name(logical_id)}.example.com"
    return f"{_name(logical_id)}.{attribute.lower()}"
