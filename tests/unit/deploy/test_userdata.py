from __future__ import annotations

import datetime as dt
import io
import os
import shutil
import subprocess
import sys
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from s3sync_agent.deploy import fetch_bundle
from s3sync_agent.deploy.fetch_bundle import get, signed, told
from s3sync_agent.deploy.userdata import MAX_BYTES, render
from s3sync_agent.errors import ConfigError
from s3sync_agent.layout import Site
from s3sync_agent.setup.aws_settings import AwsSettings

SHA256 = "ab" * 32
BUNDLE = "s3sync-agent-1.2.3-cp312-x86_64-abababababab.pyz"


AWS = AwsSettings("eu-central-1")
WAITING = "--option DPkg::Lock::Timeout=300"


def script(site: Site = Site("bucket", "my/site"), **options: Any) -> str:  # noqa: B008  # frozen
    return render(site, **{"aws": AWS, "bundle": BUNDLE, "sha256": SHA256, **options})


def test_the_script_is_bash_and_fits_where_user_data_must_fit() -> None:
    text = script(on_end="cfn-signal --success true")
    assert text.startswith("#!/bin/bash\n")
    assert "\nset -euo pipefail\n" in text
    assert len(text.encode()) < MAX_BYTES
    checked = subprocess.run(
        ["bash", "-n"], input=text, text=True, capture_output=True, check=False, timeout=10
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_shellcheck_finds_nothing() -> None:
    text = script(on_end="cfn-signal --success true", aws=AwsSettings("us-east-1", "http://10.0.0.5:9000"))
    shellcheck = Path(sys.executable).with_name("shellcheck")
    checked = subprocess.run(
        [shellcheck, "-"], input=text, text=True, capture_output=True, check=False, timeout=30
    )
    assert (checked.returncode, checked.stdout) == (0, "")


def test_it_pins_the_bundle_where_the_site_keeps_it() -> None:
    text = script()
    assert f"https://s3.eu-central-1.amazonaws.com/bucket/my/site/agent/{BUNDLE}" in text
    assert text.count(SHA256) == 2
    assert "\npython=python3.12\n" in text
    assert "--site s3://bucket/my/site --region eu-central-1\n" in text


def test_another_s3_is_told_to_the_fetching_and_to_the_service() -> None:
    text = script(aws=AwsSettings("us-east-1", "http://10.0.0.5:9000/"))
    assert f"http://10.0.0.5:9000/bucket/my/site/agent/{BUNDLE}" in text
    assert " --endpoint-url http://10.0.0.5:9000/\n" in text


def test_the_same_inputs_give_the_same_script() -> None:
    assert script() == script()


@pytest.mark.parametrize(
    ("manager", "commands"),
    [
        ("dnf", ["dnf install --assumeyes --quiet python3.12 nginx"]),
        (
            "apt-get",
            [
                "apt-get update --quiet=2",
                f"apt-get install {WAITING} --quiet=2 --no-install-recommends python3.12 nginx-light",
            ],
        ),
    ],
)
def test_what_is_missing_comes_from_the_distribution(
    manager: str, commands: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    (tmp_path / manager).write_text(f'#!/bin/sh\necho "{manager} $*" >>{log}\n')
    (tmp_path / manager).chmod(0o755)
    for tool in ("awk", "bash", "cut", "date", "mktemp", "rm", "tee", "tr"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    program = script().split("\ndoor=")[0].replace("export PATH=$PATH:/usr/sbin", "") + "\nreached_end=1\n"
    ran = subprocess.run(
        [str(tmp_path / "bash"), "-c", program],
        env={"PATH": str(tmp_path)}, text=True, capture_output=True, check=False, timeout=10,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert log.read_text().splitlines() == commands


@pytest.mark.parametrize("prefix", ["it's", "$(reboot)", "a b", '"; reboot; "', "`reboot`", "größe"])
def test_no_name_becomes_a_command(prefix: str) -> None:
    text = script(Site("bucket", prefix), on_end="echo 'done'")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    program = "\n".join(lines).split("\ntrap finish")[0].replace("trap", ":")
    ran = subprocess.run(
        ["bash", "-c", f"reboot() {{ echo REBOOTED; }}; {program}\nfinish"],
        text=True, capture_output=True, check=False, timeout=10,
    )  # fmt: skip
    assert "REBOOTED" not in ran.stdout + ran.stderr
    assert ran.stdout.endswith("done\n")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("run bash -c 'echo one; echo two >&2; exit 3'", ": two"),
        ('run bash -c \'echo "error: it is denied"; echo "hint: ask"; exit 3\'', ": it is denied"),
        ("run bash -c 'printf \"a\\033[2Jb\"; exit 3'", ": a[2Jb"),
        ("exit 3", ""),
    ],
    ids=["last", "error", "control", "silent"],
)
def test_what_is_told_at_the_end_is_the_step_that_failed_and_why(command: str, reason: str) -> None:
    text = script(on_end='echo "$S3SYNC_RESULT: $S3SYNC_REASON"')
    head = text.split("\npython=python")[0]
    ran = subprocess.run(
        ["bash", "-c", head + f'\nbegin "fetch the bundle"\n{command}\n'],
        text=True, capture_output=True, check=False, timeout=10,
    )  # fmt: skip
    assert ran.returncode == 3
    assert ran.stdout.splitlines()[-1] == f"failure: failed to fetch the bundle (exit 3){reason}"


def run_head(tail: str, *, environ: dict[str, str] | None = None) -> str:
    """What the beginning of the script reports when it goes on with `tail`."""
    head = script(on_end='echo "$S3SYNC_RESULT: $S3SYNC_REASON"').split("\npython=python")[0]
    ran = subprocess.run(
        ["bash", "-c", f"{head}\n{tail}\n"],
        env={**os.environ, **(environ or {})}, text=True, capture_output=True, check=False, timeout=10,
    )  # fmt: skip
    assert ran.returncode != 0
    return ran.stdout.splitlines()[-1]


@pytest.mark.parametrize("signal", ["TERM", "HUP", "INT"])
def test_a_script_that_is_ended_from_outside_reports_no_success(signal: str) -> None:
    told = run_head(f'begin "install the bundle"\nrun true\nkill -{signal} $$\nsleep 5')
    assert told.startswith("failure: failed to install the bundle (exit ")


def test_an_end_that_is_none_is_reported_as_failure() -> None:
    assert run_head('begin "set up the service"\nexit 0') == "failure: failed to set up the service (exit 1)"


def test_a_machine_without_room_for_a_temporary_file_reports_all_the_same() -> None:
    assert run_head("", environ={"TMPDIR": "/nowhere"}) == "failure: failed to start (exit 1)"


def test_other_users_of_apt_are_waited_for(tmp_path: Path) -> None:
    count = tmp_path / "count"
    (tmp_path / "apt-get").write_text(
        f"#!/bin/bash\n[[ $1 != update ]] || {{ echo x >>{count}; (($(wc -l <{count}) > 2)); }}\n"
    )
    (tmp_path / "sleep").write_text("#!/bin/bash\n")
    for tool in ("apt-get", "sleep"):
        (tmp_path / tool).chmod(0o755)
    part = script().split('\nbegin "install nginx')[1].split("\nelse\n")[1].split("\nfi\n\n")[0]
    program = f'set -euo pipefail\nrun() {{ "$@"; }}\nmissing=(nginx)\n{part}\necho installed'
    ran = subprocess.run(
        ["bash", "-c", program], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        text=True, capture_output=True, check=False, timeout=10,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, "installed\n"), ran.stderr
    assert count.read_text() == "x\n" * 3


@pytest.mark.parametrize("kept", ["door", "file"])
def test_keeping_visitors_out_goes_on_after_an_interruption_and_removes_no_file(
    kept: str, tmp_path: Path
) -> None:
    conf, default = tmp_path / "s3sync.conf", tmp_path / "default"
    if kept == "door":
        conf.write_text("server { listen 80 default_server; return 503; }\n")
        default.symlink_to("/etc/hostname")
    else:
        default.write_text("mine")
    part = "door=" + script().split("\ndoor=")[1].split("\nbegin ")[0]
    part = part.replace("/etc/nginx/sites-enabled/default", str(default))
    program = f'set -euo pipefail\nbegin() {{ :; }}\nrun() {{ echo "$*"; }}\nnginx_conf={conf}\n{part}'
    ran = subprocess.run(["bash", "-c", program], text=True, capture_output=True, check=False, timeout=10)
    assert (ran.returncode, ran.stdout) == (0, "systemctl reload-or-restart nginx\n"), ran.stderr
    assert default.is_symlink() is False
    assert default.exists() is (kept == "file")


def test_a_refusal_of_the_metadata_service_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers = {
        "token": b"t",
        "security-credentials/": b"role",
        "role": b'{"Code": "AssumeRoleUnauthorizedAccess"}',
    }
    asked = []

    def get(request: Request) -> bytes:
        asked.append(request.full_url)
        return next(answer for end, answer in answers.items() if request.full_url.endswith(end))

    monkeypatch.setattr(fetch_bundle, "get", get)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(SystemExit, match="has no credentials: AssumeRoleUnauthorizedAccess"):
        fetch_bundle.main("http://s3/key", "eu-central-1", "http://metadata", str(tmp_path / "bundle"))
    assert len(asked) == 5 * 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"bundle": "agent.pyz"},
        {"sha256": "ab"},
        {"sha256": "cd" * 32},
        {"aws": AwsSettings()},
        {"on_end": "#" * MAX_BYTES},
    ],
    ids=["name", "short", "other", "region", "long"],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        script(**wrong)


@pytest.mark.parametrize("token", ["", "session-token=="])
def test_a_request_is_signed_as_aws_own_library_signs_it(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = dt.datetime(2026, 11, 22, 22, 0, tzinfo=dt.UTC)
    url = "https://s3.eu-central-1.amazonaws.com/bucket/my%20site/agent/x-cp312.pyz"
    ours = signed(
        url, "eu-central-1", {"AccessKeyId": "AK", "SecretAccessKey": "secret", "Token": token}, now
    )
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: now.replace(tzinfo=None))
    request = AWSRequest("GET", url)
    S3SigV4Auth(Credentials("AK", "secret", token or None), "s3", "eu-central-1").add_auth(request)
    assert ours["Authorization"] == request.headers["Authorization"]
    assert ours["x-amz-date"] == request.headers["X-Amz-Date"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>no</Message></Error>",
            " (AccessDenied)",
        ),
        (b"\xff<html>", ""),
    ],
)
def test_what_s3_says_about_its_refusal_is_told(body: bytes, words: str) -> None:
    assert told(HTTPError("http://s3/key", 403, "Forbidden", Message(), io.BytesIO(body))) == words
    assert told(TimeoutError("timed out")) == ""


def test_a_redirect_is_not_followed_with_our_signature(tmp_path: Path) -> None:
    asked = []

    class Redirects(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(307)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """What was asked is in `asked`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Redirects) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with pytest.raises(HTTPError, match="307"):
                get(Request(f"http://127.0.0.1:{server.server_port}/bundle", headers={"Authorization": "x"}))
        finally:
            server.shutdown()
            thread.join(10)
    assert asked == ["/bundle"]


def test_china_has_a_domain_of_its_own() -> None:
    assert "https://s3.cn-north-1.amazonaws.com.cn/bucket/" in script(aws=AwsSettings("cn-north-1"))
