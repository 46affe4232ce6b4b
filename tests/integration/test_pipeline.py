"""scripts/pipeline.py, run as GitHub's runner would run it, against a real S3 server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from s3sync_agent.deploy.releases import list_releases, read_pointer
from s3sync_agent.layout import parse_site
from scripts import pipeline
from tests.agent_process import minimal, running
from tests.instances import FakeInstance, one_instance
from tests.integration.conftest import LiveSite
from tests.integration.sites import bucket_of, promote_here, publish_here
from tests.nginx_process import nginx_serving
from tests.servers import S3Server

SCRIPT = Path(pipeline.__file__)
COMMIT = "1a2b3c4d5e6f708192a3b4c5d6e7f80910213243"
ONE = {"index.html": "<h1>one</h1>", "old.html": "<p>old</p>", "same.html": "<p>same</p>"}
TWO = {"index.html": "<h1>two</h1>", "new.html": "<p>new</p>"}


@dataclass(frozen=True)
class Step:
    """A step of a job: what it left behind for GitHub."""

    code: int
    log: str
    summary: str
    outputs: dict[str, str]

    @property
    def annotations(self) -> list[str]:
        """Workflow commands that the runner would follow, but for those that stop and resume it."""
        followed, stopped_by = [], ""
        for line in self.log.splitlines():
            if stopped_by:
                stopped_by = "" if line == f"::{stopped_by}::" else stopped_by
            elif line.startswith("::stop-commands::"):
                stopped_by = line.removeprefix("::stop-commands::")
            elif line.startswith("::"):
                followed.append(line)
        assert not stopped_by, "commands were stopped and never resumed"
        return followed


def step(site: LiveSite, *arguments: str, folder: Path, in_actions: bool = True) -> Step:
    for_github = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "owner/name",
        "GITHUB_RUN_ID": "42",
        "GITHUB_SHA": COMMIT,
        "GITHUB_REF": "refs/heads/main",
        "GITHUB_ACTOR": "octocat",
        "GITHUB_STEP_SUMMARY": str(folder / "summary"),
        "GITHUB_OUTPUT": str(folder / "outputs"),
    }
    for name in ("summary", "outputs"):
        (folder / name).write_text("")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=minimal(site.environ | (for_github if in_actions else {})),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
    )
    outputs = (folder / "outputs").read_text()
    return Step(
        done.returncode,
        done.stdout,
        (folder / "summary").read_text(),
        dict(line.split("=", 1) for line in outputs.splitlines()),
    )


def publish(site: LiveSite, files: dict[str, str], *arguments: str, folder: Path, gone: str = "") -> Step:
    site.write(files)
    if gone:
        (site.folder / gone).unlink()
    done = step(site, "publish", "--dir", str(site.folder), *arguments, folder=folder)
    print(done.log)
    return done


def instance_of(site: LiveSite) -> AbstractContextManager[FakeInstance]:
    """A fleet that takes what is promoted."""
    return one_instance(bucket_of(site), parse_site(site.url))


def scene(site: LiveSite, files: dict[str, str], version: str) -> None:
    """A release that went live before the test began."""
    site.write(files)
    publish_here(site, version)
    promote_here(site, version)


def active(site: LiveSite) -> str:
    found = read_pointer(bucket_of(site), parse_site(site.url))
    assert found is not None
    return found[0].pointer.active.version


def releases(site: LiveSite) -> list[str]:
    return [release.version for release in list_releases(bucket_of(site), parse_site(site.url))]


def test_the_first_release_goes_live_and_the_job_says_so(site: LiveSite, tmp_path: Path) -> None:
    done = publish(site, ONE, folder=tmp_path)
    assert done.code == 0
    version = done.outputs["version"]
    assert version.endswith("Z-1a2b3c4")
    assert active(site) == version
    assert done.summary.startswith(f"### Published `{version}`\n")
    for row in (
        f"| site | `{site.url}` |",
        "| before | nothing |",
        "| changes | 3 files |",
        "| served | by each instance at its next poll |",
    ):
        assert row in done.summary
    assert done.annotations == []


def test_a_release_knows_the_commit_and_the_run_that_made_it(site: LiveSite, tmp_path: Path) -> None:
    publish(site, ONE, folder=tmp_path)
    (release,) = json.loads(site.s3sync("releases", "--json"))
    assert (release["commit"], release["ref"]) == (COMMIT, "refs/heads/main")
    (promotion,) = json.loads(site.s3sync("history", "--json"))
    assert promotion["by"] == "octocat"


def test_the_next_release_lists_what_changed(site: LiveSite, tmp_path: Path) -> None:
    scene(site, ONE, "v1")
    with instance_of(site):
        done = publish(site, TWO, "--version=v2", folder=tmp_path, gone="old.html")
    assert done.code == 0
    assert done.outputs == {"version": "v2", "url": ""}
    assert "| before | `v1` |" in done.summary
    assert "| changes | 1 added, 1 changed, 1 removed, 1 the same |" in done.summary
    assert done.summary.endswith("```diff\n+ new.html\n! index.html\n- old.html\n```\n")


def test_a_long_list_of_changes_is_cut_and_says_where_the_rest_is(site: LiveSite, tmp_path: Path) -> None:
    scene(site, ONE, "v1")
    many = {f"page-{number}.html": "<p>new</p>" for number in range(pipeline.SHOWN + 7)}
    with instance_of(site):
        done = publish(site, many, "--version=v2", folder=tmp_path)
    assert done.summary.count("\n+ page-") == pipeline.SHOWN
    assert done.summary.endswith("```\n\n… and 7 more: `s3sync diff v1 v2`\n")


def test_a_faulty_site_fails_with_its_faults_and_changes_nothing_live(site: LiveSite, tmp_path: Path) -> None:
    scene(site, ONE, "v1")
    done = publish(site, {}, "--version=v2", folder=tmp_path, gone="index.html")
    assert done.code == 4
    (annotated,) = done.annotations
    assert annotated.startswith("::error title=publish failed::")
    assert "cannot be published:%0A" in annotated
    assert "index.html" in annotated
    assert "%0Ahint: " in annotated
    assert done.summary.startswith("### Publish failed\n")
    assert done.outputs == {}
    assert active(site) == "v1"
    assert releases(site) == ["v1"]


def test_a_refused_promotion_fails_with_its_hint(site: LiveSite, tmp_path: Path) -> None:
    scene(site, {f"{number}.html": "x" for number in range(9)} | ONE, "v1")
    for number in range(9):
        (site.folder / f"{number}.html").unlink()
    done = publish(site, {}, "--version=v2", folder=tmp_path)
    assert done.code == 4
    (annotated,) = done.annotations
    assert "less than half of the files" in annotated
    assert "%0Ahint: --force" in annotated
    assert active(site) == "v1"


def test_a_rollback_goes_to_the_release_before(site: LiveSite, tmp_path: Path) -> None:
    scene(site, ONE, "v1")
    scene(site, TWO, "v2")
    done = step(site, "rollback", "--version=", folder=tmp_path)
    assert done.code == 0
    assert active(site) == "v1"
    assert done.outputs["version"] == "v1"
    assert done.summary.startswith("### Rolled back to `v1`\n")
    assert "| before | `v2` |" in done.summary
    assert "| changes | 0 added, 1 changed, 1 removed, 2 the same |" in done.summary


def test_a_rollback_goes_to_the_release_it_is_told(site: LiveSite, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        scene(site, ONE | {"index.html": f"<h1>{number}</h1>"}, f"v{number}")
    assert step(site, "rollback", "--version=v1", folder=tmp_path).code == 0
    assert active(site) == "v1"


def test_a_rollback_works_when_the_release_it_leaves_is_broken(
    site: LiveSite, tmp_path: Path, moto_server: S3Server
) -> None:
    scene(site, ONE, "v1")
    scene(site, TWO, "v2")
    bucket, _, prefix = site.url.removeprefix("s3://").partition("/")
    key = f"{prefix}/releases/v2/.s3sync/manifest.json"
    moto_server.admin.put_object(Bucket=bucket, Key=key, Body=b"{}")
    done = step(site, "rollback", "--version=", folder=tmp_path)
    assert done.code == 0
    assert active(site) == "v1"
    assert "| changes | cannot be compared any more |" in done.summary


@pytest.mark.parametrize("version", ["no such version", "--reason=x", "v9"])
def test_a_rollback_to_nowhere_changes_nothing(site: LiveSite, tmp_path: Path, version: str) -> None:
    scene(site, ONE, "v1")
    scene(site, TWO, "v2")
    done = step(site, "rollback", f"--version={version}", folder=tmp_path)
    assert done.code in {2, 4}
    assert len(done.annotations) == 1
    assert active(site) == "v2"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("publish", "--dir="), "there is no folder to publish"),
        (("publish", "--dir=site", "--url=javascript:alert(1)"), "is not http"),
        (("publish", "--dir=site", "--url=https://x\nversion=evil"), "is not http"),
        (("publish", "--dir=site", "--url=https://x y"), "is not http"),
        (("publish", "--dir=site", "--url=http://127.0.0.1:80x/"), "is not http"),
        (("publish", "--dir=site", "--url=http://[::1/"), "is not http"),
        (("rollback", "--version="), "nothing was promoted"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is(
    site: LiveSite, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    site.write(ONE)
    done = step(site, *arguments, folder=tmp_path)
    assert done.code in {2, 4}
    (annotated,) = done.annotations
    assert said in annotated
    assert done.outputs == {}
    assert releases(site) == []


def test_a_file_s_name_is_no_command_to_the_runner(site: LiveSite, tmp_path: Path) -> None:
    site.write(ONE)
    (site.folder / "::error::forged.html").write_text('<a href="nowhere.html">')
    done = publish(site, {}, folder=tmp_path)
    assert "\n::error::forged.html" in done.log, "a finding begins with its file"
    assert done.annotations == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_job_that_is_cancelled_says_where_it_stopped(
    site: LiveSite, tmp_path: Path, sent: signal.Signals
) -> None:
    scene(site, ONE, "v1")
    site.write(TWO)
    command = [sys.executable, str(SCRIPT), "publish", "--dir", str(site.folder), "--version", "v2"]
    with instance_of(site) as instance:
        instance.stages_in = 1000.0
        with subprocess.Popen(
            command,
            env=minimal(site.environ),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as job:
            assert job.stdout is not None
            log = []
            for line in job.stdout:
                log.append(line)
                if line.startswith("staging v2: "):
                    job.send_signal(sent)  # to this process alone, as the runner does
                    break
            log += job.stdout
            assert job.wait(timeout=30) == 130
    assert "v2 stays prepared and nothing that is served has changed: `s3sync promote v2` goes on" in "".join(
        log
    )


def test_outside_of_github_the_messages_are_those_of_s3sync(site: LiveSite, tmp_path: Path) -> None:
    done = step(site, "publish", f"--dir={tmp_path}/nothing", folder=tmp_path, in_actions=False)
    assert done.code == 2
    assert "\nerror: " in done.log
    assert "::" not in done.log


def test_it_waits_until_the_site_answers_with_the_release(site: LiveSite, tmp_path: Path) -> None:
    """Asked for is a page that differs: a fingerprinted file is served before, a hidden one never."""
    scene(site, ONE, "v1")
    more = {"about.html": "<p>about</p>", "assets/a-1a2b3c4d.js": "a()", ".well-known/a.txt": "a"}
    nginx_folder = tmp_path / "nginx"
    nginx_folder.mkdir()
    with (
        nginx_serving(site.state, site.state / "run", nginx_folder) as nginx,
        running(site.environ, folder=tmp_path) as agent,
        instance_of(site),
    ):
        agent.wait_for("activate.done")
        done = publish(site, more, "--version=v2", f"--url={nginx.url}/", folder=tmp_path)
        assert nginx.get("/about.html").status == 200, "it goes live before the job ends"
        assert done.code == 0
        assert done.outputs == {"version": "v2", "url": f"{nginx.url}/"}
        assert f"| served | {nginx.url}/about.html had it " in done.summary

        publish(site, TWO, "--version=v3", f"--url={nginx.url}", folder=tmp_path)
        back = step(site, "rollback", "--version=", f"--url={nginx.url}", folder=tmp_path)
        assert nginx.get("/").body.decode() == ONE["index.html"]
        assert f"| served | {nginx.url}/index.html had it " in back.summary


def test_a_site_that_never_answers_with_it_fails_the_job_and_keeps_the_pointer(
    site: LiveSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    nginx_folder = tmp_path / "nginx"
    nginx_folder.mkdir()
    site.write(ONE)
    for name, value in site.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setattr(pipeline, "SERVED_SECONDS", 1)
    with nginx_serving(site.state, site.state / "run", nginx_folder) as nginx:  # and no agent
        code = pipeline.main(["publish", f"--dir={site.folder}", "--version=v1", f"--url={nginx.url}"])
    assert code == 6
    said = f"v1 is promoted, but after 1 s {nginx.url}/index.html has HTTP 503"
    assert f"::error title=publish failed::{said}%0Ahint: " in capfd.readouterr().out
    assert active(site) == "v1"


@pytest.mark.parametrize(
    ("text", "escaped"), [("50 %\r\nnext", "50 %25%0D%0Anext"), ("%0A", "%250A"), ("a: b, c", "a: b, c")]
)
def test_an_annotation_is_one_line_whatever_it_says(text: str, escaped: str) -> None:
    assert pipeline.annotation(text) == escaped
