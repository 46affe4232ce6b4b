"""AWS on loopback, for tests: ministack as a process of its own, moto inside this one.

Neither is AWS: what both drop is asserted on the template (tests/infra/test_*.py say which). ministack does
stacks, change sets and versions of launch templates; moto does weights and instances with user data.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import agent_process, servers
from tests.infra.template import REGION

TOOLS = Path(sys.prefix) / "tools"  # made by `make test-infra`
READY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Aws:
    """The real `aws` command line, pointed at an emulator and at nothing else."""

    endpoint: str

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            **servers.NO_SETTINGS,
        }

    def attempt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return agent_process.command("aws", *arguments, environ=self.environment())

    def __call__(self, *arguments: str) -> Any:
        """What it answers, parsed; None where it says nothing."""
        done = self.attempt(*arguments, "--output", "json")
        assert done.returncode == 0, f"aws {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def deploy(
        self, template: Path, *arguments: str, stack: str = "site", **parameters: str
    ) -> subprocess.CompletedProcess[str]:
        """`aws cloudformation deploy` as somebody would type it."""
        overrides = [f"{name}={value}" for name, value in parameters.items()]
        return self.attempt(
            *("cloudformation", "deploy", "--template-file", str(template), "--stack-name", stack),
            *("--capabilities", "CAPABILITY_IAM", *arguments),
            *(["--parameter-overrides", *overrides] if overrides else []),
        )

    def described(self, stack: str = "site") -> dict[str, Any]:
        found: dict[str, Any] = self("cloudformation", "describe-stacks", "--stack-name", stack)["Stacks"][0]
        return found

    def outputs(self, stack: str = "site") -> dict[str, str]:
        return {one["OutputKey"]: one["OutputValue"] for one in self.described(stack).get("Outputs", [])}

    def resources(self, stack: str = "site") -> dict[str, str]:
        """Physical ids by logical id."""
        found = self("cloudformation", "describe-stack-resources", "--stack-name", stack)["StackResources"]
        return {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in found}


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
