"""From deploy.sh to a visitor and back by rollback.sh: the stack's own user data on machines, unchanged."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from s3sync_agent.layout import MachinePaths
from tests.system import aws as aws_
from tests.system import bundles
from tests.system.aws import DOMAIN, Asked, Aws
from tests.system.conftest import OFTEN
from tests.system.fleet import Fleet
from tests.system.machine import BOOT_SCRIPT, Machine
from tests.system.metadata import Metadata, instance_id
from tests.system.network import Hub
from tests.system.site import EXAMPLE, ROOT

STACK = "site"
NAMESPACE = f"s3sync-agent/{STACK}"
PAGE = (EXAMPLE / "index.html").read_bytes()
SCRIPT_SECONDS = 300.0
# ministack knows no NAT gateway, and of the images that for x86_64 alone; which one it is is no matter here.
PARAMETERS = (
    f"AgentPython={bundles.PYTHON}",
    f"Architecture={platform.machine().replace('aarch64', 'arm64')}",
    "Egress=endpoints",
    "ImageIdArm64=/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
)


@dataclass(frozen=True, slots=True)
class Stack:
    """What deploy.sh has made; `resources` and `outputs` by logical id."""

    aws: Aws
    resources: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def bucket(self) -> str:
        return self.resources["SiteBucket"]

    def user_data(self) -> str:
        """Of the version of the launch template that the group launches."""
        (group,) = self.aws.client("autoscaling").describe_auto_scaling_groups(
            AutoScalingGroupNames=[self.resources["AutoScalingGroup"]]
        )["AutoScalingGroups"]
        launched = group["LaunchTemplate"]
        (version,) = self.aws.client("ec2").describe_launch_template_versions(
            LaunchTemplateId=launched["LaunchTemplateId"], Versions=[launched["Version"]]
        )["LaunchTemplateVersions"]
        return b64decode(version["LaunchTemplateData"]["UserData"]).decode()

    def s3sync(self, *arguments: str) -> str:
        return run(self.aws, str(ROOT / ".venv/bin/s3sync"), *arguments, site=self.outputs["Site"])


def run(aws: Aws, *command: str, site: str = "") -> str:
    """Run it as CI does; its stdout. It has to succeed."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3SYNC_"))}
    environ = {**mine, **aws.environment(), **({"S3SYNC_SITE": site} if site else {})}
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=SCRIPT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def aws(hub: Hub, work: Path) -> Iterator[Aws]:
    with aws_.serving(hub, work / "aws") as found:
        yield found


@pytest.fixture(scope="module")
def stack(aws: Aws) -> Stack:
    started = time.monotonic()
    run(aws, str(ROOT / "scripts/deploy.sh"), "--yes", "--stack", STACK, "--wait", "0", *PARAMETERS)
    print(f"\nscripts/deploy.sh: {time.monotonic() - started:.1f} s")
    stack = Stack(aws, aws.resources(), aws.outputs())
    aws.allow_what_ministack_does_not_know(stack.resources["InstanceRole"])
    return stack


@pytest.fixture(scope="module")
def instances(stack: Stack, fleet: Fleet, metadata_service: Metadata) -> tuple[Machine, Machine]:
    """Two that the stack has launched. It waits for a signal of the first, and takes none of the second."""
    user_data = stack.user_data()
    first, second = (fleet.launch(user_data=user_data, files=OFTEN, on=False) for _ in range(2))
    stack.aws.awaited.add(instance_id(first.address))
    for machine in (first, second):
        stack.aws.install(machine.root, stack.bucket)
        role = stack.aws.session(stack.resources["InstanceRole"], instance_id(machine.address))
        metadata_service.roles[machine.address] = role
        machine.switch_on()
    for machine in (first, second):
        machine.wait_until(machine.is_running, "until its user data had run", seconds=120)
    return first, second


def asked_by(machine: Machine, aws: Aws) -> list[Asked]:
    return [each for each in aws.asked if each.address == machine.address]


def signal_of(machine: Machine, aws: Aws) -> Asked:
    (signal,) = [each for each in asked_by(machine, aws) if each.action == "SignalResource"]
    return signal


# --------------------------------------------------------------------------------- launch


def test_a_machine_of_the_stack_serves_and_its_stack_hears_of_it(
    instances: tuple[Machine, Machine], stack: Stack
) -> None:
    machine, _ = instances
    home = machine.http("/")
    assert (home.status, home.body) == (200, PAGE)
    assert machine.http("/healthz").status == 200
    signal = signal_of(machine, stack.aws)
    assert (signal.host, signal.status) == (f"cloudformation.{DOMAIN}", 200)
    told = {name: signal.parameters[name] for name in signal.parameters if name not in ("Action", "Version")}
    assert told == {
        "StackName": STACK,
        "LogicalResourceId": "AutoScalingGroup",
        "UniqueId": instance_id(machine.address),
        "Status": "SUCCESS",
    }


def test_a_stack_that_takes_no_signal_is_no_failure(instances: tuple[Machine, Machine], stack: Stack) -> None:
    _, machine = instances
    assert signal_of(machine, stack.aws).status == 400
    assert machine.run("cloud-init status").stdout.strip() == "status: done"
    assert "success: serving" in machine.run("cat /var/log/cloud-init-output.log").stdout
    assert machine.http("/").body == PAGE


def test_what_an_instance_does_is_what_its_role_may_do(
    instances: tuple[Machine, Machine], stack: Stack
) -> None:
    for machine in instances:
        asked = [each for each in asked_by(machine, stack.aws) if each.action != "SignalResource"]
        assert [each for each in asked if each.status not in (200, 206, 304)] == []
        hosts = {f"{stack.bucket}.s3.{DOMAIN}", f"s3.{DOMAIN}", f"monitoring.{DOMAIN}"}
        assert {each.host for each in asked} <= hosts


def test_an_instance_is_called_as_its_role_policy_calls_it(
    instances: tuple[Machine, Machine], stack: Stack
) -> None:
    role: dict[str, Any] = stack.aws.client("iam").get_role(RoleName=stack.resources["InstanceRole"])["Role"]
    for machine in instances:
        in_force = machine.run("s3sync-agent check-config").stdout
        assert f"{role['RoleId']}:{instance_id(machine.address)}" in in_force


def test_the_metrics_of_an_instance_are_those_that_the_alarms_watch(
    instances: tuple[Machine, Machine], stack: Stack
) -> None:
    def sent() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = stack.aws.client("cloudwatch").list_metrics(Namespace=NAMESPACE)[
            "Metrics"
        ]
        return found

    machine, _ = instances
    seconds = machine.wait_until(lambda: bool(sent()), "for its metrics", seconds=90)
    print(f"\nmetrics after {seconds:.1f} s")
    assert {json.dumps(each["Dimensions"]) for each in sent()} == {
        json.dumps([{"Name": "Group", "Value": stack.bucket}])
    }


# ---------------------------------------------------------------------- promotion, rollback


def test_a_promotion_waits_for_every_machine_and_rollback_sh_brings_the_release_before_back(
    instances: tuple[Machine, Machine], stack: Stack, tmp_path: Path
) -> None:
    version = json.loads(stack.s3sync("status", "--json"))["active"]["version"]
    worse = shutil.copytree(EXAMPLE, tmp_path / "worse")
    (worse / "index.html").write_text("<h1>worse</h1>")

    def all_show(page: bytes) -> bool:
        return all(machine.http("/").body == page for machine in instances)

    machine, _ = instances
    published = stack.s3sync("publish", str(worse), "--version", "worse")
    print(f"\n{stack.s3sync('promote', published, '--expect', str(len(instances)))}")
    assert all_show(b"<h1>worse</h1>")
    run(stack.aws, str(ROOT / "scripts/rollback.sh"), "--stack", STACK, version)
    seconds = machine.wait_until(lambda: all_show(PAGE), "for the better one")
    print(f"\nback on every machine {seconds:.1f} s after scripts/rollback.sh")


# ---------------------------------------------------------------------------------- images


def test_an_image_made_of_an_instance_has_an_identity_of_its_own_on_the_next(
    instances: tuple[Machine, Machine],
) -> None:
    """The agent of an image starts before the boot script does, and is called as the instance was."""
    _, machine = instances
    machine.run(f"sed -i 's/{instance_id(machine.address)}/i-0another/' {MachinePaths().user_data}")
    machine.run("systemctl restart s3sync-agent")
    assert identities(machine)[-1].endswith(":i-0another")
    machine.run(f"bash {BOOT_SCRIPT}", seconds=120)
    machine.wait_until(
        lambda: identities(machine)[-1].endswith(f":{instance_id(machine.address)}"), "for its own identity"
    )
    assert machine.http("/").body == PAGE


def identities(machine: Machine) -> list[str]:
    """What the agent was called, start by start."""
    lines = machine.journal("s3sync-agent").splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    return [event["identity"] for event in events if event["event"] == "agent.started"]
