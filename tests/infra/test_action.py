"""The action, step by step as GitHub's runner takes them: its own lines in bash, against a real S3 server."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from s3sync_agent.bucket.s3 import S3Bucket
from s3sync_agent.layout import parse_site
from tests import servers
from tests.agent_process import minimal
from tests.infra.workflows import ACTION, ROOT, load
from tests.instances import one_instance

pytestmark = pytest.mark.timeout(180)  # the libraries are downloaded

BASH = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail"]  # `shell: bash`


@dataclass(frozen=True)
class Runner:
    """A repository's job: its checkout, the runner's folder, and a server that stands for AWS."""

    checkout: Path
    temp: Path
    server: servers.S3Server
    site: str

    def uses(self, **inputs: str) -> tuple[int, dict[str, str]]:
        """One step `uses: …`, with these inputs: how it ended and its outputs."""
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        known = load(ACTION)["inputs"]
        assert given.keys() <= known.keys()
        values = {name: given.get(name, described.get("default")) for name, described in known.items()}
        missing = [
            name for name, described in known.items() if described.get("required") and not values[name]
        ]
        assert missing == []
        output = self.temp / "output"
        output.write_text("")
        libraries, pipeline = (step for step in load(ACTION)["runs"]["steps"] if "run" in step)
        if not (self.temp / "s3sync").exists():  # once for all tests: it takes seconds
            assert self._run(libraries, values, output) == 0
        code = self._run(pipeline, values, output)
        return code, dict(line.split("=", 1) for line in output.read_text().splitlines())

    def bucket(self) -> S3Bucket:
        with pytest.MonkeyPatch.context() as monkeypatch:
            for name, value in self.server.environment().items():
                monkeypatch.setenv(name, value)
            return S3Bucket(parse_site(self.site).bucket)

    def _run(self, step: dict[str, dict[str, str] | str], inputs: dict[str, str], output: Path) -> int:
        known = {
            "github.action_path": str(ROOT),
            "steps.python.outputs.python-path": sys.executable,
            "steps.role.outputs.aws-access-key-id": servers.ADMIN.access_key,
            "steps.role.outputs.aws-secret-access-key": servers.ADMIN.secret_key,
            "steps.role.outputs.aws-session-token": "token",
            **{f"inputs.{name}": value for name, value in inputs.items()},
        }
        written = step["env"]
        assert isinstance(written, dict)
        environ = {
            name: re.sub(r"\$\{\{ (\S+) \}\}", lambda match: known[match[1]], text)
            for name, text in written.items()
        }
        of_the_runner = {
            "AWS_ENDPOINT_URL": self.server.endpoint,
            **servers.NO_SETTINGS,
            "GITHUB_ACTIONS": "true",
            "GITHUB_OUTPUT": str(output),
            "RUNNER_TEMP": str(self.temp),
        }
        script = self.temp / "step.sh"
        script.write_text(str(step["run"]))
        done = subprocess.run(
            [*BASH, str(script)],
            cwd=self.checkout,
            env=minimal(of_the_runner | environ),
            capture_output=True,
            text=True,
            timeout=170,
            check=False,
        )
        print(done.stdout + done.stderr)
        return done.returncode


@pytest.fixture(scope="module")
def temp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runner temp")  # a space, as nobody expects


@pytest.fixture
def runner(moto_server: servers.S3Server, temp: Path, tmp_path: Path) -> Runner:
    (tmp_path / "public site").mkdir()
    (tmp_path / "public site" / "index.html").write_text("<h1>one</h1>")
    # Whatever a repository has at its top must not get in the way.
    for name in ("s3sync_agent", "json", "click"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the repository of the site')")
    return Runner(tmp_path, temp, moto_server, f"s3://{moto_server.new_bucket()}")


def test_five_lines_publish_a_site_and_a_few_more_bring_the_former_one_back(runner: Runner) -> None:
    common = {"site": runner.site, "role": "arn:aws:iam::111122223333:role/deploy", "region": "us-east-1"}
    code, first = runner.uses(**common, site_dir="public site")
    assert code == 0
    assert first["version"]
    with one_instance(runner.bucket(), parse_site(runner.site)):
        code, second = runner.uses(**common, site_dir="public site", version="v2")
        assert code == 0
        assert second == {"version": "v2", "url": ""}
        code, back = runner.uses(**common, command="rollback")
        assert code == 0
    assert back["version"] == first["version"]


@pytest.mark.parametrize("hostile", ["\"; touch pwned; $(touch pwned) `touch pwned` '", "--help"])
def test_an_input_is_text_whatever_it_says(runner: Runner, hostile: str) -> None:
    common = {"site": runner.site, "role": "arn:aws:iam::111122223333:role/deploy", "region": "us-east-1"}
    for where in ("site_dir", "version", "command", "url", "site"):
        code, outputs = runner.uses(**(common | {"site_dir": "public site"} | {where: hostile}))
        assert code in {2, 4}, where
        assert outputs == {}
    assert not (runner.checkout / "pwned").exists()


def test_its_outputs_are_those_of_its_last_step() -> None:
    action = load(ACTION)
    assert {name: output["value"] for name, output in action["outputs"].items()} == {
        name: f"${{{{ steps.pipeline.outputs.{name} }}}}" for name in ("version", "url")
    }
    assert action["runs"]["steps"][-1]["id"] == "pipeline"


def test_it_leaves_neither_credentials_nor_a_python_behind() -> None:
    by_id = {step.get("id"): step for step in load(ACTION)["runs"]["steps"]}
    assert by_id["role"]["with"]["output-env-credentials"] == "false"
    assert by_id["python"]["with"]["update-environment"] == "false"
