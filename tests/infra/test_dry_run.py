"""`scripts/deploy.sh --dry-run`: what a push would change in the stack, for whoever has to approve it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.agent_process import minimal
from tests.infra.emulators import Aws
from tests.infra.workflows import ROOT

pytestmark = pytest.mark.timeout(180)  # the bundle's wheels are downloaded

STACK = "site"
# What the emulator lacks: images for arm64, and NAT gateways in a change set.
LACKING = {
    "ImageIdArm64": "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
    "Egress": "none",
}


def dry_run(aws: Aws, *parameters: str) -> str:
    done = subprocess.run(
        [str(ROOT / "scripts" / "deploy.sh"), "--dry-run", "--stack", STACK, *parameters],
        env=minimal(aws.environment()),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def change_sets(aws: Aws) -> list[str]:
    found = aws.client("cloudformation").list_change_sets(StackName=STACK)["Summaries"]
    return [one["ChangeSetName"] for one in found]


def test_it_shows_the_changes_and_makes_none(aws: Aws, path: Path) -> None:
    aws.create(path, **LACKING)
    before, sets = aws.resources(), change_sets(aws)
    said = dry_run(aws, "MaxInstances=3")
    assert "LaunchTemplate" in said
    assert "AutoScalingGroup" in said
    assert aws.resources() == before
    assert aws.status() == "CREATE_COMPLETE"
    assert aws.client("s3").list_objects_v2(Bucket=before["SiteBucket"])["KeyCount"] == 0
    assert change_sets(aws) == sets


def test_it_needs_no_stack(aws: Aws) -> None:
    assert "LoadBalancer" in dry_run(aws, *(f"{name}={value}" for name, value in LACKING.items()))
    assert aws.client("s3").list_buckets()["Buckets"] == []
