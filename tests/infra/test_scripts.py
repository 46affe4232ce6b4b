"""scripts/deploy.sh, rollback.sh and destroy.sh, run as somebody would run them, against ministack.

What they cannot show here: instances. ministack launches none, so nothing is waited for (`--wait 0`); booted
machines have tests of their own (tests/system/test_stack.py).
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest
from botocore.exceptions import WaiterError

from tests.agent_process import COMMANDS, minimal
from tests.infra import emulators
from tests.infra.emulators import Aws
from tests.infra.given import IMAGE, bundle

ROOT = Path(__file__).resolve().parents[2]
# ministack knows the image of one architecture, and no NAT gateway.
GIVEN = (
    "Egress=none",
    "ImageIdArm64=/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
)
NEVER_SIGNALLED = """
Resources:
  Handle:
    Type: AWS::CloudFormation::WaitConditionHandle
  Condition:
    Type: AWS::CloudFormation::WaitCondition
    Properties: { Handle: !Ref Handle, Timeout: 1 }
"""
SECONDS = 300  # the first run makes a bundle

pytestmark = pytest.mark.timeout(SECONDS)


def run(aws: Aws, script: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    path = f"{COMMANDS}:{os.environ['PATH']}"
    return subprocess.run(
        [str(ROOT / "scripts" / script), *arguments],
        env=minimal({**aws.environment(), "PATH": path, **environ}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def deploy(aws: Aws, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(aws, "deploy.sh", "--yes", "--wait", "0", *arguments, *GIVEN)


def done(process: subprocess.CompletedProcess[str]) -> str:
    assert process.returncode == 0, process.stderr
    return process.stdout + process.stderr


def s3sync(aws: Aws, *arguments: str) -> str:
    environ = {**aws.environment(), "S3SYNC_SITE": aws.outputs()["Site"]}
    return subprocess.run(
        [str(COMMANDS / "s3sync"), *arguments],
        env=minimal(environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.strip()


def active(aws: Aws) -> str:
    version: str = json.loads(s3sync(aws, "status", "--json"))["active"]["version"]
    return version


@pytest.fixture(scope="module")
def deployed(ministack: Aws) -> Aws:
    """From nothing to a site, by one command."""
    emulators.reset(ministack)
    print(done(deploy(ministack)))
    return ministack


def test_one_command_makes_the_stack_uploads_the_bundle_and_promotes_a_release(deployed: Aws) -> None:
    resources = deployed.resources()
    assert {"LaunchTemplate", "QuietAutoScalingGroup"} <= set(resources)
    parameters = deployed.parameters()
    bundle = parameters["AgentBundle"]
    listed = deployed.client("s3").list_objects_v2(Bucket=resources["SiteBucket"], Prefix="agent/")
    assert [one["Key"] for one in listed["Contents"]] == [f"agent/{bundle}"]
    assert parameters["AgentBundleSha256"].startswith(bundle.rpartition("-")[2].removesuffix(".pyz"))
    assert active(deployed)
    assert deployed.outputs()["NextStep"].startswith("Nothing.")


def test_run_again_it_changes_nothing_and_keeps_parameters_that_are_not_named(deployed: Aws) -> None:
    before = active(deployed)
    said = done(run(deployed, "deploy.sh", "--yes", "--wait", "0"))
    assert "nothing to change" in said
    assert "publish and promote the first release" not in said
    assert active(deployed) == before
    assert deployed.parameters()["Egress"] == "none"


def test_a_dry_run_shows_what_would_change_and_changes_nothing(deployed: Aws) -> None:
    before = (deployed.status(), deployed.parameters(), deployed.resources(), change_sets(deployed))
    said = done(run(deployed, "deploy.sh", "--dry-run", "MaxInstances=3"))
    assert "QuietAutoScalingGroup" in said
    assert (deployed.status(), deployed.parameters(), deployed.resources(), change_sets(deployed)) == before


def change_sets(aws: Aws) -> list[str]:
    found = aws.client("cloudformation").list_change_sets(StackName="site")["Summaries"]
    return [one["ChangeSetName"] for one in found]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("BucketName=another", "BucketName of a stack cannot be changed; it is ''"),
        ("KmsKeyArn=arn:aws:kms:eu-central-1:1:key/1", "KmsKeyArn of a stack cannot be changed; it is ''"),
        ("MaxInstance=8", "the template has no parameter MaxInstance"),
        ("AgentBundle=", "AgentBundle is set here"),
    ],
)
def test_a_change_that_the_site_would_not_survive_is_refused(deployed: Aws, change: str, reason: str) -> None:
    refused = run(deployed, "deploy.sh", "--yes", "--wait", "0", change)
    assert refused.returncode in {1, 2}
    assert f"error: {reason}" in refused.stderr
    assert "make the bundle" not in refused.stderr


def test_a_parameter_given_twice_is_refused(deployed: Aws) -> None:
    twice = run(deployed, "deploy.sh", "--yes", "--wait", "0", "BucketName=", "BucketName=another")
    assert twice.returncode == 2
    assert "error: BucketName is given twice" in twice.stderr


# ------------------------------------------------------------- replacing instances without egress

# What no emulator does: an instance refresh that takes its time, targets that get healthy or do not.
STAND_IN = """#!/bin/bash
case "$1 $2" in
  "autoscaling start-instance-refresh") echo "$*" >>"$STATE/started"; echo refresh-1 ;;
  "autoscaling cancel-instance-refresh") touch "$STATE/cancelled" ;;
  "autoscaling describe-instance-refreshes")
    if [[ $* != *--instance-refresh-ids* ]]; then cat "$STATE/under-way"; else next=$STATE/refresh; fi ;;
  "elbv2 describe-target-health") next=$STATE/healthy ;;
  *) exec "$REAL_AWS" "$@" ;;
esac
[[ -z ${next:-} ]] || { head -n 1 "$next"; sed -i '1{$!d}' "$next"; }
"""


def replace_instances(
    aws: Aws, folder: Path, *, refresh: list[str], healthy: list[int], under_way: str = "None"
) -> subprocess.CompletedProcess[str]:
    """deploy.sh, told one after another these states of the refresh and these numbers of healthy targets."""
    for name, text in (("aws", STAND_IN), ("sleep", "#!/bin/bash\n"), ("make", "#!/bin/bash\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "refresh").write_text("\n".join(refresh) + "\n")
    (folder / "healthy").write_text("".join(f"{number}\n" for number in healthy))
    (folder / "under-way").write_text(f"{under_way}\n")
    path = f"{folder}:{COMMANDS}:{os.environ['PATH']}"
    stand_in = {"PATH": path, "STATE": str(folder), "REAL_AWS": str(COMMANDS / "aws")}
    return run(aws, "deploy.sh", "--yes", "--wait", "0", **stand_in)


def test_instances_are_replaced_one_after_another_while_enough_are_healthy(
    deployed: Aws, tmp_path: Path
) -> None:
    done(
        replace_instances(
            deployed, tmp_path, refresh=["InProgress"] * 4 + ["Successful"], healthy=[2, 1, 1, 2]
        )
    )
    started = (tmp_path / "started").read_text()
    assert "MinHealthyPercentage=100,MaxHealthyPercentage=150" in started
    assert "SkipMatching=true" in started
    assert not (tmp_path / "cancelled").exists()


def test_no_more_are_replaced_when_new_ones_do_not_get_healthy(deployed: Aws, tmp_path: Path) -> None:
    stopped = replace_instances(deployed, tmp_path, refresh=["InProgress"], healthy=[2, 1])
    assert stopped.returncode == 1
    assert "only 1 of 2 instances are healthy; no more are replaced" in stopped.stderr
    assert (tmp_path / "cancelled").exists()


def test_a_fleet_that_is_unhealthy_already_is_not_kept_from_being_replaced(
    deployed: Aws, tmp_path: Path
) -> None:
    refresh = ["InProgress"] * 6 + ["Successful"]
    done(replace_instances(deployed, tmp_path, refresh=refresh, healthy=[0, 0, 0, 0, 1, 2]))
    assert not (tmp_path / "cancelled").exists()


def test_a_refresh_that_an_interrupted_run_has_begun_is_waited_for(deployed: Aws, tmp_path: Path) -> None:
    done(replace_instances(deployed, tmp_path, refresh=["Successful"], healthy=[2], under_way="refresh-0"))
    assert not (tmp_path / "started").exists()


# ---------------------------------------------------------------------------------- questions


def answered(aws: Aws, answer: str, script: str, *arguments: str) -> tuple[int, str]:
    """Run a script at a terminal where somebody types `answer`; its exit code and messages."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        ended = subprocess.run(
            [str(ROOT / "scripts" / script), *arguments],
            env=minimal({**aws.environment(), "PATH": f"{COMMANDS}:{os.environ['PATH']}"}),
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("answer", ["", "y", "blog"])
def test_only_the_name_of_the_stack_destroys_it(deployed: Aws, answer: str) -> None:
    code, said = answered(deployed, answer, "destroy.sh")
    assert (code, "stopped, nothing was deleted" in said) == (1, True), said
    assert deployed.status() == "UPDATE_COMPLETE"


def test_without_a_terminal_nothing_is_destroyed(deployed: Aws) -> None:
    silent = run(deployed, "destroy.sh")
    assert silent.returncode == 2
    assert "--yes answers for you" in silent.stderr
    assert deployed.status() == "UPDATE_COMPLETE"


def test_a_bucket_that_was_left_is_destroyed_and_the_stack_beside_it_is_not(deployed: Aws) -> None:
    s3 = deployed.client("s3")
    s3.create_bucket(Bucket="left-behind", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_bucket_versioning(Bucket="left-behind", VersioningConfiguration={"Status": "Enabled"})
    for number in range(1100):  # more than a request takes, all of them twice: a version and a marker
        s3.put_object(Bucket="left-behind", Key=str(number), Body=b"")
        s3.delete_object(Bucket="left-behind", Key=str(number))
    assert "gone" in done(run(deployed, "destroy.sh", "--yes", "--bucket", "left-behind"))
    assert "left-behind" not in {one["Name"] for one in s3.list_buckets()["Buckets"]}
    assert deployed.status() == "UPDATE_COMPLETE"
    assert active(deployed)


def test_a_rollback_brings_the_named_release_back(deployed: Aws, tmp_path: Path) -> None:
    first = active(deployed)
    (tmp_path / "index.html").write_text("<!doctype html><title>two</title>")
    s3sync(deployed, "publish", str(tmp_path), "--version", "two")
    s3sync(deployed, "promote", "two", "--now", "--force")
    listed = done(run(deployed, "rollback.sh"))
    assert listed.index("two") < listed.index(first)
    said = done(run(deployed, "rollback.sh", first, "--reason", "two was wrong"))
    assert f"promoted {first}, after two" in said
    assert active(deployed) == first
    assert "two was wrong" in s3sync(deployed, "history")


def test_a_release_that_never_was_is_no_rollback(deployed: Aws) -> None:
    before = active(deployed)
    missing = run(deployed, "rollback.sh", "nope")
    assert missing.returncode == 4
    assert "nope is not in the history" in missing.stderr
    assert active(deployed) == before


def test_destroying_leaves_nothing(deployed: Aws) -> None:
    assert "gone" in done(run(deployed, "destroy.sh", "--yes"))
    assert deployed.client("s3").list_buckets()["Buckets"] == []
    again = run(deployed, "destroy.sh", "--yes")
    assert again.returncode == 1
    assert "there is no stack site" in again.stderr


# --------------------------------------------------------------------------- other accounts


def test_instances_that_signal_do_not_become_ones_that_nobody_waits_for(aws: Aws, path: Path) -> None:
    aws.create(path, **IMAGE, Egress="endpoints", **bundle("a"))
    refused = run(aws, "deploy.sh", "--yes", "--wait", "0", "Egress=none")
    assert refused.returncode == 1
    assert "error: Egress cannot become none" in refused.stderr
    assert "AutoScalingGroup" in aws.resources()


def test_what_a_failed_creation_left_is_deleted_after_a_yes(aws: Aws, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(NEVER_SIGNALLED)
    with pytest.raises(WaiterError):
        aws.create(broken)
    assert aws.status() == "ROLLBACK_COMPLETE"
    silent = run(aws, "deploy.sh", *GIVEN)
    assert silent.returncode == 2
    assert "The creation of stack site has failed before. Delete what is left of it?" in silent.stderr
    assert aws.status() == "ROLLBACK_COMPLETE"
    code, said = answered(aws, "n", "deploy.sh", *GIVEN)
    assert (code, "stopped, nothing of this was done" in said) == (1, True), said
    assert aws.status() == "ROLLBACK_COMPLETE"


def test_destroying_what_a_failed_creation_left_finds_its_bucket(aws: Aws, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    bucket = "  LogBucket:\n    Type: AWS::S3::Bucket\n    DeletionPolicy: Retain\n"
    broken.write_text(NEVER_SIGNALLED.replace("Resources:\n", f"Resources:\n{bucket}"))
    with pytest.raises(WaiterError):
        aws.create(broken)
    left = {one["Name"] for one in aws.client("s3").list_buckets()["Buckets"]}
    said = done(run(aws, "destroy.sh", "--yes"))
    assert not left or f"--bucket {left.pop()}" in said
    assert aws.client("s3").list_buckets()["Buckets"] == []


def test_a_dry_run_needs_no_stack_and_makes_none(aws: Aws) -> None:
    assert "LoadBalancer" in done(run(aws, "deploy.sh", "--dry-run", *GIVEN))
    assert aws.status() == "REVIEW_IN_PROGRESS", "which the next deployment takes for none"
    assert aws.client("s3").list_buckets()["Buckets"] == []


def test_the_identity_provider_that_the_account_has_is_used(aws: Aws) -> None:
    arn = aws.client("iam").create_open_id_connect_provider(
        Url="https://token.actions.githubusercontent.com", ClientIDList=["sts.amazonaws.com"]
    )["OpenIDConnectProviderArn"]
    # ministack cannot make one in a stack: a stack without an error has been given the one that was there.
    said = done(run(aws, "deploy.sh", "--dry-run", *GIVEN, "GitHubRepository=owner/name"))
    assert "DeployRole" in said
    assert arn.endswith(":oidc-provider/token.actions.githubusercontent.com")


def test_nothing_is_made_when_nobody_is_there_to_say_yes(aws: Aws) -> None:
    silent = run(aws, "deploy.sh", *GIVEN)
    assert silent.returncode == 2
    assert "nobody is here to answer: Make these changes?" in silent.stderr
    assert "--yes answers for you" in silent.stderr
    assert aws.client("s3").list_buckets()["Buckets"] == []
    assert aws.status() == "REVIEW_IN_PROGRESS", "only proposed"


@pytest.mark.parametrize("script", ["deploy.sh", "rollback.sh", "destroy.sh"])
def test_an_aws_that_cannot_be_asked_is_not_an_account_without_a_stack(script: str) -> None:
    deaf = Aws("http://127.0.0.1:9")
    failed = run(deaf, script, *(["--yes"] if script != "rollback.sh" else []), AWS_MAX_ATTEMPTS="1")
    assert failed.returncode != 0
    assert "AWS does not know who you are" in failed.stderr


@pytest.mark.parametrize(
    ("script", "arguments", "reason"),
    [
        ("deploy.sh", ["--stak", "x"], "what is --stak?"),
        ("deploy.sh", ["--stack"], "--stack needs a value"),
        ("deploy.sh", ["--site-dir", "/no/such/folder"], "there is no folder /no/such/folder"),
        ("deploy.sh", ["--wait", "long"], "--wait takes seconds, not long"),
        ("rollback.sh", ["v1", "v2"], "one version, not v1 and v2"),
        ("rollback.sh", ["--region"], "--region needs a value"),
        ("rollback.sh", [""], "the version is empty"),
        ("destroy.sh", ["site"], "what is site?"),
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_is_asked(
    script: str, arguments: list[str], reason: str
) -> None:
    refused = run(Aws("http://127.0.0.1:9"), script, *arguments)
    assert refused.returncode == 2
    assert f"error: {reason}" in refused.stderr


@pytest.mark.parametrize("script", ["deploy.sh", "rollback.sh", "destroy.sh"])
def test_help_says_what_it_does(script: str) -> None:
    helped = run(Aws("http://127.0.0.1:9"), script, "--help")
    assert helped.returncode == 0
    assert helped.stdout.startswith(f"usage: scripts/{script} ")
