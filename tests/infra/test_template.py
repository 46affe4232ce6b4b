"""What `template.py` makes of a template is what CloudFormation would."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.infra.template import InvalidTemplate, Refused, Template

Written = Callable[[str], Template]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    def write(text: str) -> Template:
        path = tmp_path / "template.yaml"
        path.write_text(dedent(text))
        return Template.read(path)

    return write


@pytest.fixture
def value(written: Written) -> Callable[..., Any]:
    """What a function, written in YAML, comes to."""

    def resolve(function: str, **parameters: str) -> Any:
        template = written(f"""
            Parameters:
              Size: {{Type: Number, Default: 2}}
              Names: {{Type: CommaDelimitedList, Default: "a, b"}}
              Image: {{Type: "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>", Default: /image}}
            Mappings:
              Kinds: {{arm64: {{small: t4g.small}}}}
            Conditions:
              IsBig: !Equals [!Ref Size, "3"]
            Resources:
              Bucket: {{Type: "AWS::S3::Bucket"}}
              Role: {{Type: "AWS::IAM::Role"}}
              Absent: {{Type: "AWS::S3::Bucket", Condition: IsBig}}
              Subject: {{Type: "AWS::X::Y", Properties: {{Value: {function}}}}}
        """)
        return template.stack(**parameters).resources["Subject"].properties.get("Value", "nothing")

    return resolve


@pytest.mark.parametrize(
    ("function", "result"),
    [
        ("!Ref Size", "2"),
        ("!Ref Names", ["a", "b"]),
        ("!Ref Image", "(value of /image)"),
        ("!Ref AWS::Region", "eu-central-1"),
        ("!Ref Bucket", "site-bucket"),
        ("!GetAtt Bucket.Arn", "arn:aws:s3:::site-bucket"),
        ("!Join ['-', [x, !Ref Size]]", "x-2"),
        ("!Select [1, !Ref Names]", "b"),
        ("!Split [',', 'x,y']", ["x", "y"]),
        ("!Select [1, !GetAZs '']", "eu-central-1b"),
        ("!Select [2, !Cidr [10.0.0.0/16, 4, 8]]", "10.0.2.0/24"),
        ("!FindInMap [Kinds, arm64, small]", "t4g.small"),
        ("!If [IsBig, 1, 0]", 0),
        ("!If [IsBig, 1, !Ref AWS::NoValue]", "nothing"),
        ("[1, !If [IsBig, 2, !Ref AWS::NoValue]]", [1]),
        (
            "!Sub '${Bucket}/${Bucket.Arn}/${AWS::Region}'",
            "site-bucket/arn:aws:s3:::site-bucket/eu-central-1",
        ),
        ("!Sub 'fleet/${!aws:userid}.json'", "fleet/${aws:userid}.json"),
        ("!Sub ['${Own}-${Size}', {Own: !Ref Size}]", "2-2"),
        ("2012-10-17", "2012-10-17"),
    ],
)
def test_functions_are_resolved(value: Callable[..., Any], function: str, result: Any) -> None:
    assert value(function) == result


def test_base64_is_encoded(value: Callable[..., Any]) -> None:
    assert base64.b64decode(value("{'Fn::Base64': !Sub 'echo ${Size}'}")) == b"echo 2"


def test_a_role_s_id_looks_like_one(value: Callable[..., Any]) -> None:
    assert value("!GetAtt Role.RoleId").startswith("AROA")
    assert len(value("!GetAtt Role.RoleId")) == 21


@pytest.mark.parametrize(
    "function",
    ["!Ref Nobody", "!GetAtt Nobody.Arn", "!Sub '${Nobody}'", "!ImportValue x", "!If [Nobody, 1, 2]"],
)
def test_what_is_not_known_is_an_error(value: Callable[..., Any], function: str) -> None:
    with pytest.raises(InvalidTemplate):
        value(function)


def test_a_reference_to_what_does_not_exist_is_an_error(value: Callable[..., Any]) -> None:
    for function in ("!Ref Absent", "0}, DependsOn: Absent, Metadata: {Of: 0"):
        with pytest.raises(InvalidTemplate, match="Absent is referred to and does not exist: IsBig is false"):
            value(function)
    assert value("!Ref Absent", Size="3") == "site-absent"


def test_resources_and_outputs_exist_by_their_conditions(written: Written) -> None:
    template = written("""
        Parameters:
          Kind: {Type: String, Default: ""}
        Conditions:
          IsGiven: !Not [!Equals [!Ref Kind, ""]]
          IsSmall: !And [!Condition IsGiven, !Or [!Equals [!Ref Kind, s], !Equals [!Ref Kind, xs]]]
        Resources:
          Always: {Type: "AWS::X::Y"}
          Small: {Type: "AWS::X::Y", Condition: IsSmall, DeletionPolicy: Retain, DependsOn: Always}
        Outputs:
          One: {Value: !Ref Always}
          Two: {Value: !Ref Small, Condition: IsSmall}
    """)
    none, small, large = template.stack(), template.stack(Kind="s"), template.stack(Kind="l")
    assert list(none.resources) == list(large.resources) == ["Always"]
    assert small.resources["Small"].attributes == {"DeletionPolicy": "Retain", "DependsOn": "Always"}
    assert small.outputs == {"One": "site-always", "Two": "site-small"}
    assert none.outputs == {"One": "site-always"}
    assert (large.conditions["IsGiven"], large.conditions["IsSmall"]) == (True, False)


def test_rules_refuse_with_their_own_words(written: Written) -> None:
    template = written("""
        Parameters:
          Domain: {Type: String, Default: ""}
          Zone: {Type: String, Default: ""}
        Rules:
          DomainNeedsZone:
            RuleCondition: !Not [!Equals [!Ref Domain, ""]]
            Assertions:
              - Assert: !Not [!Equals [!Ref Zone, ""]]
                AssertDescription: A domain needs its zone.
        Resources:
          Any: {Type: "AWS::X::Y"}
    """)
    template.stack()
    template.stack(Domain="example.com", Zone="Z1")
    with pytest.raises(Refused, match=r"A domain needs its zone\."):
        template.stack(Domain="example.com")


@pytest.mark.parametrize(
    ("spec", "given"),
    [
        ("Type: String", {"Nobody": "x"}),
        ("Type: String", {}),
        ("Type: String, AllowedValues: [a, b]", {"It": "c"}),
        ("Type: String, AllowedPattern: '[a-z]+'", {"It": "ab1"}),
        ("Type: String, MaxLength: 2", {"It": "abc"}),
        ("Type: Number, MinValue: 1", {"It": "0"}),
        ("Type: Number", {"It": "two"}),
    ],
)
def test_parameters_are_refused_as_their_specification_says(
    written: Written, spec: str, given: dict[str, str]
) -> None:
    template = written(f"""
        Parameters:
          It: {{{spec}}}
        Resources:
          Any: {{Type: "AWS::X::Y"}}
    """)
    with pytest.raises(Refused):
        template.stack(**given)


def test_a_key_that_is_there_twice_is_an_error(written: Written) -> None:
    with pytest.raises(InvalidTemplate, match="Duplicate"):
        written("Resources: {A: {Type: X}, A: {Type: Y}}")


def test_a_stack_can_be_written_down_without_functions(written: Written) -> None:
    template = written("""
        Parameters:
          Size: {Type: Number, Default: 2}
        Resources:
          First: {Type: "AWS::X::Y"}
          Any: {Type: "AWS::X::Y", DependsOn: First, Properties: {Size: !Ref Size}}
    """)
    assert template.stack().body()["Resources"]["Any"] == {
        "Type": "AWS::X::Y",
        "DependsOn": "First",
        "Properties": {"Size": "2"},
    }


def test_what_is_created_before_what(written: Written) -> None:
    stack = written("""
        Conditions:
          IsNever: !Equals [a, b]
        Resources:
          By-word: {Type: "AWS::X::Y", DependsOn: Middle}
          By-reference: {Type: "AWS::X::Y", Properties: {Value: !Sub "${Middle}"}}
          By-metadata: {Type: "AWS::X::Y", Metadata: {After: !If [IsNever, !Ref Last, !GetAtt Middle.Arn]}}
          Middle: {Type: "AWS::X::Y", DependsOn: First}
          First: {Type: "AWS::X::Y"}
          Last: {Type: "AWS::X::Y"}
    """).stack()
    assert stack.before("By-word") == {"Middle", "First"}
    assert stack.before("By-reference") == {"Middle", "First"}
    assert stack.before("By-metadata") == {"Middle", "First"}
    assert stack.before("First") == set()


def test_a_circle_is_an_error(written: Written) -> None:
    template = written("""
        Resources:
          One: {Type: "AWS::X::Y", DependsOn: Other}
          Other: {Type: "AWS::X::Y", Properties: {Value: !Ref One}}
    """)
    with pytest.raises(InvalidTemplate, match="a circle"):
        template.stack()
