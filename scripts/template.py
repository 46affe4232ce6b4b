"""Write the boot script into infra/cloudformation.yaml: `make template`. With `--check`, only compare.

The template's user data is what `s3sync userdata` prints, with the stack's values in place of given ones. It
is rendered with values that occur nowhere else, which are then replaced by CloudFormation's expressions.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from s3sync_agent.deploy import userdata
from s3sync_agent.layout import Site
from s3sync_agent.setup.aws_settings import AwsSettings

TEMPLATE = Path(__file__).resolve().parent.parent / "infra/cloudformation.yaml"
GROUP = "AutoScalingGroup"  # the logical name of the resource that waits for signals

_BLOCK = re.compile(
    r"^(?P<head> +Fn::Base64: !Sub\n(?P<indent> +)- \|\n)(?P<body>(?:(?P=indent)  .*\n|\n)+)", re.MULTILINE
)

_REGION = "zz-stand-1"
_BUCKET = "stand-in-bucket"
_STACK = "stand-in-stack"
_EGRESS = "stand-in-egress"
_NAMESPACE = "stand-in-namespace"
_ROLE_ID = "AROASTANDINSTANDIN123"
_SHA256 = "5" * 64
_BUNDLE = f"s3sync-agent-0-cp399-x86_64-{_SHA256[:12]}.pyz"
_EXPRESSIONS = {
    _BUNDLE: "${AgentBundle}",
    _SHA256: "${AgentBundleSha256}",
    "python3.99": "python${AgentPython}",
    _REGION: "${AWS::Region}",
    _BUCKET: "${SiteBucket}",
    _STACK: "${AWS::StackName}",
    _EGRESS: "${Egress}",
    _NAMESPACE: "${Namespace}",
    _ROLE_ID: "${InstanceRole.RoleId}",
}


def signal(*, egress: str, region: str, stack: str) -> str:
    """The command that tells CloudFormation how the boot ended.

    A success is told when the balancer has seen it too: it asks every 5 s and believes the second answer.
    Its own failure is nobody's: the stack may have stopped waiting long ago, as when an instance is launched
    by scaling.
    """
    return (
        f"[ {egress} = none ] || "
        "{ said=FAILURE; [ $S3SYNC_RESULT != success ] || { said=SUCCESS; sleep 15; }; "
        f"aws cloudformation signal-resource --region {region} --stack-name {stack} "
        f"--logical-resource-id {GROUP} --unique-id $(cloud-init query instance_id) --status $said; }}"
    )


def render(
    *,
    bucket: str,
    region: str,
    stack: str,
    egress: str,
    namespace: str,
    role_id: str,
    bundle: str,
    sha256: str,
) -> str:
    """The user data of an instance of this stack. `namespace` is that of its metrics, "" sends none."""
    return userdata.render(
        Site(bucket),
        aws=AwsSettings(region),
        bundle=bundle,
        sha256=sha256,
        role_id=role_id,
        settings={"cloudwatch_namespace": namespace},
        amazon_linux=True,
        on_end=signal(egress=egress, region=region, stack=stack),
    )


def expressed() -> str:
    """The user data as `Fn::Sub` takes it."""
    script = render(
        bucket=_BUCKET,
        region=_REGION,
        stack=_STACK,
        egress=_EGRESS,
        namespace=_NAMESPACE,
        role_id=_ROLE_ID,
        bundle=_BUNDLE,
        sha256=_SHA256,
    ).replace("${", "${!")
    for stand_in, expression in _EXPRESSIONS.items():
        script = script.replace(stand_in, expression)
    return script


def written(template: str) -> str:
    """The template with its user data made anew."""
    (found,) = _BLOCK.finditer(template)
    indent = found["indent"] + "  "
    lines = expressed().splitlines(keepends=True)
    body = "".join(f"{indent}{line}" if line.strip() else line for line in lines)
    return template[: found.start("body")] + body + template[found.end("body") :]


def main() -> None:
    before = TEMPLATE.read_text()
    after = written(before)
    if sys.argv[1:] == ["--check"]:
        if before != after:
            sys.exit(f"{TEMPLATE.name}: its user data is not what is rendered now; run: make template")
    else:
        TEMPLATE.write_text(after)


if __name__ == "__main__":
    main()
