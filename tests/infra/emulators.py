"""AWS on loopback, for tests: ministack as a process of its own, moto inside this one.

Neither is AWS: what both drop is asserted on the template (tests/infra/test_*.py say which). ministack does
stacks, change sets and versions of launch templates; moto does weights and instances with user data.
"""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import boto3

from tests import agent_process, servers
from tests.infra.template import REGION

TOOLS = Path(sys.prefix) / "tools"  # made by `make test-infra`
READY_SECONDS = 30.0
KEY = "test"


@dataclass(frozen=True, eq=False)
class Aws:
    """An emulator: the real `aws` command line pointed at it, and AWS's SDK to look at what came of it.

    `trusted` is the file with the certificate of one that is asked over TLS.
    """

    endpoint: str
    trusted: str = ""

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": KEY,
            "AWS_DEFAULT_REGION": REGION,
            **servers.NO_SETTINGS,
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The `aws` command line with these arguments."""
        return agent_process.command("aws", *arguments, environ=self.environment())

    def deploy(self, template: Path, *arguments: str, **parameters: str) -> subprocess.CompletedProcess[str]:
        """`aws cloudformation deploy` of the stack `site`, as somebody would type it."""
        overrides = [f"{name}={value}" for name, value in parameters.items()]
        # It names change sets by the second, and a stack may not have two of one name.
        time.sleep(1 - time.time() % 1)
        return self.run(
            *("cloudformation", "deploy", "--template-file", str(template), "--stack-name", "site"),
            *("--capabilities", "CAPABILITY_IAM", *arguments),
            *(["--parameter-overrides", *overrides] if overrides else []),
        )

    @lru_cache  # noqa: B019  # an emulator lives as long as the tests
    def client(self, service: str) -> Any:
        return boto3.Session().client(
            cast("Any", service),
            endpoint_url=self.endpoint,
            verify=self.trusted or None,
            aws_access_key_id=KEY,
            aws_secret_access_key=KEY,
            region_name=REGION,
        )

    def create(self, template: Path, **parameters: str) -> None:
        """The stack `site`, by the SDK: many variants in little time. Raises where its creation fails."""
        cloudformation = self.client("cloudformation")
        cloudformation.create_stack(
            StackName="site",
            TemplateBody=template.read_text(),
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[
                {"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()
            ],
        )
        waiter = cloudformation.get_waiter("stack_create_complete")
        waiter.wait(StackName="site", WaiterConfig={"Delay": 0.05, "MaxAttempts": 400})

    def status(self) -> str:
        return str(self._described()["StackStatus"])

    def outputs(self) -> dict[str, str]:
        return {one["OutputKey"]: one["OutputValue"] for one in self._described().get("Outputs", [])}

    def resources(self) -> dict[str, str]:
        """Physical ids by logical id."""
        found = self.client("cloudformation").describe_stack_resources(StackName="site")["StackResources"]
        return {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in found}

    def parameters(self) -> dict[str, str]:
        return {one["ParameterKey"]: one["ParameterValue"] for one in self._described()["Parameters"]}

    def launch_data_in_force(self) -> dict[str, Any]:
        """Of the version of its launch template that the one group would launch from."""
        (group,) = self.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        chosen = group["LaunchTemplate"]
        (version,) = self.client("ec2").describe_launch_template_versions(
            LaunchTemplateId=chosen["LaunchTemplateId"], Versions=[chosen["Version"]]
        )["LaunchTemplateVersions"]
        return dict(version["LaunchTemplateData"])

    def _described(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client("cloudformation").describe_stacks(StackName="site")["Stacks"][0]
        return found


@contextmanager
def ministack(directory: Path) -> Iterator[Aws]:
    """A ministack that keeps its log and whatever it writes below `directory`."""
    (port,) = servers.free_ports(1)
    program = TOOLS / "ministack" / "bin" / "ministack"
    assert program.exists(), f"{program} is missing: `make test-infra` installs it"
    log = directory / "ministack.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(program)],
            stdout=output,
            stderr=output,
            cwd=directory,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(directory),
                "TMPDIR": str(directory),
                "BIND_HOST": "127.0.0.1",
                "GATEWAY_PORT": str(port),
                "MINISTACK_REGION": REGION,
                "SFTP_ENABLED": "0",
            },
        )
    endpoint = f"http://127.0.0.1:{port}"
    try:
        await_ready(process, endpoint, log)
        yield Aws(endpoint)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)


def reset(aws: Aws) -> None:
    """Everything that was created in ministack is gone."""
    request = urllib.request.Request(f"{aws.endpoint}/_ministack/reset", method="POST")
    with urllib.request.urlopen(request, timeout=30):
        pass


def await_ready(
    process: subprocess.Popen[bytes], endpoint: str, log: Path, certificate: Path | None = None
) -> None:
    """Until ministack answers, with this certificate where it has one."""
    context = ssl.create_default_context(cafile=certificate) if certificate else None
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=1, context=context):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    tail = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"ministack was not ready after {READY_SECONDS:.0f} s:\n{tail}")


@contextmanager
def moto() -> Iterator[Aws]:
    with servers.moto() as server:
        yield Aws(server.endpoint)
