"""What the agent and `s3sync` really ask of S3 is what their roles allow, and their roles allow nothing else.

Every command and an instance run against a real S3 server through a recorder; what they asked for is put to
the policies of the rendered stack. What the roles allow beyond that is a reviewed table.
"""

from __future__ import annotations

import base64
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest

from s3sync_agent.bucket import s3 as s3_module
from s3sync_agent.bucket.s3 import S3Bucket
from s3sync_agent.errors import DigestMismatch
from s3sync_agent.heartbeat import Heartbeat, encode_heartbeat
from s3sync_agent.layout import Site
from s3sync_agent.pointer import parse_pointer
from tests.agent_process import command, running
from tests.infra import policies
from tests.infra.given import EVERYTHING
from tests.infra.policies import Request, Statement
from tests.infra.recording import recording
from tests.infra.template import REGION, Stack, Template
from tests.metadata_service import metadata_service
from tests.servers import S3Server

pytestmark = pytest.mark.timeout(180)  # two dozen commands are started, one after the other

INSTANCE = "i-0123456789abcdef0"
SITE = {
    "index.html": "<h1>hello</h1>",
    "about/index.html": "<h1>about</h1>",
    "assets/app-59d1c78c.js": "1",
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was asked of IAM, by who asked."""

    pipeline: list[Request]
    pruning: list[Request]
    infrastructure: list[Request]
    instance: list[Request]


@dataclass(frozen=True, slots=True)
class Scene:
    server: S3Server
    bucket: str
    folder: Path

    def environ(self, endpoint: str, **settings: str) -> dict[str, str]:
        return {
            **self.server.environment(),
            "AWS_ENDPOINT_URL": endpoint,
            "S3SYNC_SITE": f"s3://{self.bucket}",
            "S3SYNC_STATE_DIR": str(self.folder / "state"),
            **settings,
        }

    def call(self, endpoint: str, *words: str, code: int = 0, **settings: str) -> str:
        done = command(*words, environ=self.environ(endpoint, **settings))
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def beat(self) -> str:
        """An instance says that it serves what the pointer makes active. Returns the key."""
        site = Site(self.bucket)
        stored = self.server.admin.get_object(Bucket=self.bucket, Key=site.pointer)["Body"].read()
        pointer = parse_pointer(stored).pointer
        beat = Heartbeat(
            site=site.url,
            identity=f"ROLE:{INSTANCE}",
            version="0.2.0",
            state="steady",
            serving=pointer.active.id,
            promotion_id=pointer.active.promotion_id,
            good=True,
            sequence=pointer.sequence,
        )
        key = site.heartbeat(beat.identity)
        self.server.admin.put_object(Bucket=self.bucket, Key=key, Body=encode_heartbeat(beat))
        return key

    def write(self, files: dict[str, str]) -> Path:
        site = self.folder / "site"
        for path, text in files.items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_text(text)
        return site


@pytest.fixture(scope="module")
def stack(template: Template) -> Stack:
    return template.stack(**EVERYTHING)


@pytest.fixture(scope="module")
def recorded(stack: Stack, moto_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    scene = Scene(moto_server, stack.ref("SiteBucket"), tmp_path_factory.mktemp("contract"))
    moto_server.admin.create_bucket(Bucket=scene.bucket)
    with (
        recording(moto_server.endpoint) as pipeline,
        recording(moto_server.endpoint) as pruning,
        recording(moto_server.endpoint) as infrastructure,
        recording(moto_server.endpoint) as instance,
    ):
        # Before there is anything.
        scene.call(pipeline.endpoint, "s3sync", "releases")
        scene.call(pipeline.endpoint, "s3sync", "status")
        scene.call(instance.endpoint, "s3sync-agent", "run", "--once")
        bundle = scene.folder / EVERYTHING["AgentBundle"]
        bundle.write_text("a")
        scene.call(infrastructure.endpoint, "s3sync", "bundle", "--upload", str(bundle))
        _fetch_bundle(scene, instance.endpoint, stack)
        # Releases come and go.
        site = scene.write(SITE)
        for version in ("v1", "v2", "v3"):
            scene.write({"index.html": version})
            scene.call(pipeline.endpoint, "s3sync", "publish", str(site), "--version", version)
            scene.call(pipeline.endpoint, "s3sync", "promote", version, "--now")
            scene.call(instance.endpoint, "s3sync-agent", "run", "--once", S3SYNC_SOURCE="pointer")
            (site / "about/index.html").unlink(missing_ok=True)  # and the mirror has one to delete
        scene.call(pipeline.endpoint, "s3sync", "publish", str(site), "--version", "v3")  # it is there
        # As an instance would that is up to date; nobody waits for it afterwards.
        heartbeat = scene.beat()
        for words in (
            ["status"],
            ["releases"],
            ["history"],
            ["diff", "v1", "v2"],
            ["verify", "v2"],
            ["fleet"],
        ):
            scene.call(pipeline.endpoint, "s3sync", *words)
        scene.call(pipeline.endpoint, "s3sync", "promote", "v3")
        scene.call(pipeline.endpoint, "s3sync", "freeze", "for a look")
        scene.call(pipeline.endpoint, "s3sync", "unfreeze")
        scene.call(pipeline.endpoint, "s3sync", "promote", "v1", "--timeout", "1s", code=6)
        moto_server.admin.delete_object(Bucket=scene.bucket, Key=heartbeat)
        scene.call(pruning.endpoint, "s3sync", "prune", "--keep", "1")
        scene.call(pipeline.endpoint, "s3sync", "rollback")
        scene.call(instance.endpoint, "s3sync-agent", "run", "--once", S3SYNC_SOURCE="pointer")
        _live_and_leave(scene, instance.endpoint, stack)
        scene.call(pipeline.endpoint, "s3sync", "promote", "nosuch", "--now", code=4)
        _upload_in_parts(scene, pipeline.endpoint)
        return Recorded(
            pipeline.permissions(),
            pruning.permissions(),
            infrastructure.permissions(),
            instance.permissions(),
        )


def _live_and_leave(scene: Scene, endpoint: str, stack: Stack) -> None:
    """An agent's life, with its heartbeats: it writes them, it stops, and it is terminated."""
    identity = f"{stack.attribute('InstanceRole', 'RoleId')}:{INSTANCE}"
    key = Site(scene.bucket).heartbeat(identity)
    environ = scene.environ(endpoint, S3SYNC_SOURCE="pointer", S3SYNC_IDENTITY=identity)
    folder = scene.folder / "agent"
    folder.mkdir()
    with running(environ, folder=folder) as agent:
        agent.wait_notified("READY=1")
        agent.stop()
    with metadata_service() as ec2:
        ec2.terminate()
        for _ in range(5):  # an agent that ends waits a second for it, whatever else this machine is doing
            with running(environ | ec2.environ, folder=folder) as agent:
                agent.wait_notified("READY=1")
                agent.stop()
            if "Contents" not in scene.server.admin.list_objects_v2(Bucket=scene.bucket, Prefix=key):
                return
    raise AssertionError(f"{key} is still there")


def _fetch_bundle(scene: Scene, endpoint: str, stack: Stack) -> None:
    """With the very command of the boot script."""
    (found,) = re.findall(r"run (aws s3 cp .*) \"\$bundle\.part\"", boot_script(stack))
    scene.call(endpoint, *found.split(), str(scene.folder / "bundle.part"))


def boot_script(stack: Stack) -> str:
    data = stack.resources["LaunchTemplate"].properties["LaunchTemplateData"]
    return base64.b64decode(data["UserData"]).decode()


def _upload_in_parts(scene: Scene, endpoint: str) -> None:
    """One that is completed and one that is given up, smaller than they would be."""
    key = Site(scene.bucket).pack("v9", "0" * 64)
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in (scene.server.environment() | {"AWS_ENDPOINT_URL": endpoint}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(s3_module, "LARGEST_SINGLE", 1)
        bucket = S3Bucket(scene.bucket)
        bucket.put(key, b"whole", size=5, sha256=sha256(b"whole").hexdigest(), create_only=True)
        with pytest.raises(DigestMismatch):
            bucket.put(key, b"broken", size=6, sha256=sha256(b"another").hexdigest())


# ------------------------------------------------------------------- what is asked for is allowed


def on_instance(stack: Stack, request: Request) -> Request:
    """As the instance asks: with the identity that EC2 gives it, over TLS."""
    user_id = f"{stack.attribute('InstanceRole', 'RoleId')}:{INSTANCE}"
    return with_context(request, **{"aws:userid": user_id, "aws:SecureTransport": "true"})


def with_context(request: Request, **keys: str) -> Request:
    return replace(request, context={**request.context, **keys})


def with_key(requests: Iterable[Request]) -> list[Request]:
    """Those that S3 makes of a key, in the name of who asked, where the bucket is encrypted with one."""
    needed = {"s3:GetObject": ["kms:Decrypt"], "s3:PutObject": ["kms:GenerateDataKey", "kms:Decrypt"]}
    actions = {action for request in requests for action in needed.get(request.action, [])}
    by_s3 = {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}
    return [*requests, *(Request(action, EVERYTHING["KmsKeyArn"], by_s3) for action in sorted(actions))]


def refused(statements: Sequence[Statement], requests: Iterable[Request]) -> list[str]:
    return [str(request) for request in requests if not policies.allows(statements, request)]


def test_the_recording_is_worth_something(recorded: Recorded) -> None:
    actions = {
        name: {request.action.removeprefix("s3:") for request in getattr(recorded, name)}
        for name in ("pipeline", "pruning", "infrastructure", "instance")
    }
    assert actions == {
        "pipeline": {"AbortMultipartUpload", "DeleteObject", "GetObject", "ListBucket", "PutObject"},
        "pruning": {"DeleteObject", "GetObject", "ListBucket"},
        "infrastructure": {"PutObject"},
        "instance": {"DeleteObject", "GetObject", "ListBucket", "PutObject"},
    }


def test_an_instance_may_do_all_that_the_agent_does(stack: Stack, recorded: Recorded) -> None:
    asked = [on_instance(stack, request) for request in with_key(recorded.instance)]
    assert not refused(policies.of_role(stack.resources["InstanceRole"]), asked)


def test_all_that_the_agent_does_goes_through_the_endpoint_to_s3(stack: Stack, recorded: Recorded) -> None:
    policy = stack.resources["S3Endpoint"].properties["PolicyDocument"]["Statement"]
    assert not refused(policy, recorded.instance)


def test_the_pipeline_may_do_all_that_s3sync_does(stack: Stack, recorded: Recorded) -> None:
    assert not refused(policies.of_role(stack.resources["DeployRole"]), with_key(recorded.pipeline))


def test_the_pipeline_may_prune_where_that_is_switched_on(
    template: Template, stack: Stack, recorded: Recorded
) -> None:
    assert not refused(policies.of_role(stack.resources["DeployRole"]), with_key(recorded.pruning))
    without = template.stack(**{**EVERYTHING, "AllowPruning": "no"})
    deleted = [str(request) for request in recorded.pruning if request.action == "s3:DeleteObject"]
    assert refused(policies.of_role(without.resources["DeployRole"]), recorded.pruning) == deleted


def test_a_bundle_is_no_business_of_the_pipeline(stack: Stack, recorded: Recorded) -> None:
    asked = [str(request) for request in recorded.infrastructure]
    assert refused(policies.of_role(stack.resources["DeployRole"]), recorded.infrastructure) == asked


def test_nobody_is_denied_what_they_may_over_tls_and_everybody_without(
    stack: Stack, recorded: Recorded
) -> None:
    statements = policies.of_bucket(stack, "SiteBucket")
    for request in [*recorded.instance, *recorded.pipeline, *recorded.pruning, *recorded.infrastructure]:
        assert not policies.denies(statements, with_context(request, **{"aws:SecureTransport": "true"}))
        assert policies.denies(statements, with_context(request, **{"aws:SecureTransport": "false"}))


def test_the_heartbeat_that_an_instance_may_write_is_the_one_that_it_would(stack: Stack) -> None:
    """The boot script names the identity, `layout` makes a key of it, and IAM has its own idea of it."""
    found = re.search(r'identity = \\"(.+?)\\"', boot_script(stack))
    assert found is not None
    identity = found[1].replace("$id", INSTANCE)
    own = Request("s3:PutObject", at(stack, Site(stack.ref("SiteBucket")).heartbeat(identity)))
    assert policies.allows(policies.of_role(stack.resources["InstanceRole"]), on_instance(stack, own))


# --------------------------------------------------------------------- nothing else is allowed

STACK_ID = "arn:aws:cloudformation:eu-central-1:123456789012:stack/site/6a3f1d20"
OWN = "fleet/${aws:userid}.json"

# Everything that each role is granted, by action: where, and under which condition.
KEY_BY_S3 = [
    EVERYTHING["KmsKeyArn"],
    f'if {{"StringEquals": {{"kms:ViaService": "s3.{REGION}.amazonaws.com"}}}}',
]
GRANTED = {
    "InstanceRole": {
        "s3:GetObject": ["agent/*", "current/*", "releases/*"],
        "s3:ListBucket": ["", 'if {"StringLike": {"s3:prefix": ["current/*", "releases/*"]}}'],
        "s3:PutObject": [OWN],
        "s3:DeleteObject": [OWN],
        # A request may name the stack, and is then about all that ever had its name.
        "cloudformation:SignalResource": [f"{STACK_ID.rpartition('/')[0]}/*"],
        "cloudwatch:PutMetricData": [
            "*",
            'if {"StringEquals": {"cloudwatch:namespace": "s3sync-agent/site"}}',
        ],
        "kms:Decrypt": KEY_BY_S3,
        "kms:GenerateDataKey": KEY_BY_S3,
    },
    "DeployRole": {
        "s3:ListBucket": [""],
        "s3:GetObject": ["current/*", "fleet/*", "releases/*"],
        "s3:PutObject": ["current/*", "releases/*"],
        "s3:AbortMultipartUpload": ["current/*", "releases/*"],
        "s3:DeleteObject": ["current/*", "releases/*"],
        # AWS knows no smaller resource for it: who is in a group can be read, and nothing changed.
        "autoscaling:DescribeAutoScalingGroups": ["*"],
        "kms:Decrypt": KEY_BY_S3,
        "kms:GenerateDataKey": KEY_BY_S3,
    },
}


def granted(stack: Stack, role: str) -> dict[str, list[str]]:
    bucket = stack.attribute("SiteBucket", "Arn")
    found: dict[str, set[str]] = defaultdict(set)
    for statement in policies.of_role(stack.resources[role]):
        if statement["Effect"] == "Allow":
            condition = [f"if {json.dumps(statement['Condition'])}"] if "Condition" in statement else []
            for action in policies.listed(statement["Action"]):
                resources = policies.listed(statement["Resource"])
                found[action] |= {one.removeprefix(bucket).removeprefix("/") for one in resources}
                found[action] |= set(condition)
    return {action: sorted(where) for action, where in found.items()}


@pytest.mark.parametrize("role", GRANTED)
def test_a_role_is_granted_what_was_reviewed(stack: Stack, role: str) -> None:
    assert granted(stack, role) == GRANTED[role]


@pytest.mark.parametrize("role", GRANTED)
def test_a_role_has_no_policy_elsewhere(stack: Stack, role: str) -> None:
    shell = ["arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"] if role == "InstanceRole" else None
    assert stack.resources[role].properties.get("ManagedPolicyArns") == shell
    assert not stack.of_type("AWS::IAM::Policy")
    assert not stack.of_type("AWS::IAM::ManagedPolicy")


POINTER = "current/.s3sync/pointer.json"

# Role, what it asks for, and whether it may. A key lies in the site's bucket.
QUESTIONS = [
    ("InstanceRole", "s3:GetObject", POINTER, True),
    ("InstanceRole", "s3:PutObject", POINTER, False),
    ("InstanceRole", "s3:DeleteObject", POINTER, False),
    ("InstanceRole", "s3:PutObject", "current/index.html", False),
    ("InstanceRole", "s3:PutObject", "releases/v1/index.html", False),
    ("InstanceRole", "s3:DeleteObject", "releases/v1/.s3sync/manifest.json", False),
    ("InstanceRole", "s3:PutObject", "agent/other.pyz", False),
    ("InstanceRole", "s3:PutObject", f"fleet/ROLE:{INSTANCE}.json", True),
    ("InstanceRole", "s3:DeleteObject", f"fleet/ROLE:{INSTANCE}.json", True),
    ("InstanceRole", "s3:PutObject", "fleet/ROLE:i-another.json", False),
    ("InstanceRole", "s3:DeleteObject", "fleet/ROLE:i-another.json", False),
    ("InstanceRole", "s3:GetObject", "fleet/ROLE:i-another.json", False),
    ("InstanceRole", "s3:GetObjectVersion", POINTER, False),
    ("InstanceRole", "s3:DeleteObjectVersion", f"fleet/ROLE:{INSTANCE}.json", False),
    ("InstanceRole", "s3:PutBucketPolicy", "", False),
    ("InstanceRole", "s3:GetObject", "arn:aws:s3:::another-bucket/current/index.html", False),
    ("InstanceRole", "s3:GetObject", "arn:aws:s3:::site-logbucket/balancer/x", False),
    ("InstanceRole", "cloudformation:SignalResource", STACK_ID, True),
    ("InstanceRole", "cloudformation:SignalResource", STACK_ID.replace("site", "blog"), False),
    ("InstanceRole", "cloudformation:UpdateStack", STACK_ID, False),
    ("InstanceRole", "iam:PassRole", "arn:aws:iam::123456789012:role/site-instancerole", False),
    ("InstanceRole", "ec2:TerminateInstances", f"arn:aws:ec2:eu-central-1:1:instance/{INSTANCE}", False),
    ("DeployRole", "s3:PutObject", POINTER, True),
    ("DeployRole", "s3:DeleteObject", POINTER, False),
    ("DeployRole", "s3:PutObject", "current/index.html", True),
    ("DeployRole", "s3:DeleteObject", "current/index.html", True),
    ("DeployRole", "s3:PutObject", "releases/v1/index.html", True),
    ("DeployRole", "s3:GetObject", "fleet/ROLE:i-another.json", True),
    ("DeployRole", "s3:PutObject", "fleet/ROLE:i-another.json", False),
    ("DeployRole", "s3:DeleteObject", "fleet/ROLE:i-another.json", False),
    ("DeployRole", "s3:GetObject", "agent/other.pyz", False),
    ("DeployRole", "s3:PutObject", "agent/other.pyz", False),
    ("DeployRole", "s3:DeleteObject", "agent/other.pyz", False),
    ("DeployRole", "s3:DeleteObjectVersion", "releases/v1/index.html", False),
    ("DeployRole", "s3:PutBucketPolicy", "", False),
    ("DeployRole", "s3:PutLifecycleConfiguration", "", False),
    ("DeployRole", "s3:GetObject", "arn:aws:s3:::site-logbucket/balancer/x", False),
    ("DeployRole", "cloudformation:UpdateStack", STACK_ID, False),
    ("DeployRole", "autoscaling:DescribeAutoScalingGroups", "*", True),
    ("DeployRole", "autoscaling:StartInstanceRefresh", "*", False),
    ("DeployRole", "iam:PassRole", "arn:aws:iam::123456789012:role/site-instancerole", False),
    ("DeployRole", "sts:AssumeRole", "arn:aws:iam::123456789012:role/site-instancerole", False),
]


@pytest.mark.parametrize(("role", "action", "resource", "may"), QUESTIONS)
def test_questions_about_roles(stack: Stack, role: str, action: str, resource: str, may: bool) -> None:
    named = resource.replace("ROLE", stack.attribute("InstanceRole", "RoleId"))
    asked = Request(action, named if named.startswith("arn:") or named == "*" else at(stack, named))
    if role == "InstanceRole":
        asked = on_instance(stack, asked)
    assert policies.allows(policies.of_role(stack.resources[role]), asked) is may


@pytest.mark.parametrize(
    ("prefix", "may"),
    [
        (POINTER, True),
        ("current/", True),
        ("releases/", True),
        ("fleet/", False),
        ("agent/", False),
        ("", False),
    ],
)
def test_an_instance_may_list_what_it_serves(stack: Stack, prefix: str, may: bool) -> None:
    asked = Request("s3:ListBucket", stack.attribute("SiteBucket", "Arn"), {"s3:prefix": prefix})
    assert policies.allows(policies.of_role(stack.resources["InstanceRole"]), asked) is may


@pytest.mark.parametrize(("namespace", "may"), [("s3sync-agent/site", True), ("s3sync-agent/blog", False)])
def test_an_instance_may_write_metrics_of_its_own_stack(stack: Stack, namespace: str, may: bool) -> None:
    asked = Request("cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": namespace})
    assert policies.allows(policies.of_role(stack.resources["InstanceRole"]), asked) is may


def test_without_a_key_nobody_may_use_one_and_without_egress_nobody_may_signal(template: Template) -> None:
    least = template.stack(**{**EVERYTHING, "Egress": "none", "SessionManager": "no", "KmsKeyArn": ""})
    actions = {action.partition(":")[0] for role in GRANTED for action in granted(least, role)}
    assert actions == {"s3", "autoscaling"}


def at(stack: Stack, key: str) -> str:
    arn: str = stack.attribute("SiteBucket", "Arn")
    return f"{arn}/{key}" if key else arn
