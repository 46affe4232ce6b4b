from __future__ import annotations

import datetime as dt
import io
import os
import re
import shutil
import subprocess
import sys
import tomllib
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
    text = script(on_end="cfn-signal --success true", role_id=ROLE, settings={"poll_interval": "2"})
    assert text.startswith("#!/bin/bash\n")
    assert "\nset -euo pipefail\n" in text
    assert len(text.encode()) < MAX_BYTES * 2 / 3, "a template adds to it"
    checked = subprocess.run(
        ["bash", "-n"], input=text, text=True, capture_output=True, check=False, timeout=10
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_shellcheck_finds_nothing() -> None:
    text = script(
        on_end="cfn-signal --success true",
        aws=AwsSettings("us-east-1", "http://10.0.0.5:9000"),
        role_id=ROLE,
        settings={"poll_interval": "2"},
    )
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
    assert "--site s3://bucket/my/site --region eu-central-1 --wait 600\n" in text


ROLE = "AROAEXAMPLE0123456789"


def settle(folder: Path, *, unit: bool = False, instance: str = "echo i-0123", **told: Any) -> list[str]:
    """Run the part of the script that writes the settings, below `folder`; the commands it ran. With `unit`
    there is a service already."""
    rest = script(**told).split('\nrun "$python" "$bundle"\n')[1]
    part = rest.split('\nbegin "serve the first release"')[0]
    part = part.replace("/etc/", f"{folder}/")
    service = folder / "systemd/system/s3sync-agent.service"
    service.parent.mkdir(parents=True, exist_ok=True)
    if unit:
        service.touch()
    program = f"""set -euo pipefail
      said={folder}/said
      begin() {{ echo "$1"; }}
      run() {{ "$@"; }}
      cloud-init() {{ [[ $* == "query instance_id" ]] && {instance}; }}
      systemctl() {{ echo "systemctl $*"; }}
      umask 077
      {part}"""
    ran = subprocess.run(["bash", "-c", program], text=True, capture_output=True, check=False, timeout=10)
    if ran.returncode:
        raise RuntimeError((folder / "said").read_text())
    assert ran.stderr == ""
    return ran.stdout.splitlines()


def fragment(folder: Path) -> Path:
    return folder / "s3sync-agent/config.d/50-user-data.toml"


def test_the_settings_of_an_instance_are_what_the_script_was_told(tmp_path: Path) -> None:
    told = {"cloudwatch_namespace": "s3sync-agent/site", "metrics_textfile": '/run/it\'s \\ "$HOME" ü`.prom'}
    assert settle(tmp_path, role_id=ROLE, settings=told) == ["write the settings"]
    written = fragment(tmp_path)
    assert tomllib.loads(written.read_text()) == {**told, "identity": f"{ROLE}:i-0123"}
    assert written.stat().st_mode & 0o777 == 0o644, "the service is not root"
    assert [path.name for path in written.parent.iterdir()] == [written.name]


def test_an_image_of_another_instance_gets_settings_of_its_own_and_its_agent_takes_them(
    tmp_path: Path,
) -> None:
    settle(tmp_path, role_id=ROLE, settings={"poll_interval": "2"})
    again = settle(tmp_path, unit=True, instance="echo i-4567", role_id=ROLE)
    assert again == ["write the settings", "systemctl try-restart --no-block s3sync-agent.service"]
    assert tomllib.loads(fragment(tmp_path).read_text()) == {"identity": f"{ROLE}:i-4567"}
    same = settle(tmp_path, unit=True, instance="echo i-4567", role_id=ROLE)
    assert same == ["write the settings"], "an agent that has them is not disturbed"
    settle(tmp_path, unit=True)
    assert not fragment(tmp_path).exists(), "a script without settings leaves no other instance's"


def test_an_instance_that_cannot_learn_its_id_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Missing instance-data file"):
        settle(tmp_path, role_id=ROLE, instance="{ echo Missing instance-data file >&2; false; }")
    assert not fragment(tmp_path).exists()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"role_id": "arn:aws:iam::123456789012:role/web"}, "is not the id of a role"),
        ({"settings": {"site": "s3://bucket"}}, "site is no setting for --setting"),
        ({"settings": {"source": "plain"}}, "source is no setting for --setting"),
        ({"settings": {"state_dir": "/srv"}}, "state_dir is no setting for --setting"),
        ({"settings": {"identity": "web-1"}, "role_id": ROLE}, "identity is no setting for --setting"),
        ({"settings": {"poll_intervall": "1"}}, "no such setting; did you mean poll_interval?"),
        ({"settings": {"poll_interval": "often"}}, "poll_interval = 'often': expected a number"),
        ({"settings": {"identity": "a\nsite = 1"}}, "cannot be printed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_that_no_agent_would_take_are_refused_here(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        script(**wrong)


def test_an_identity_can_be_given_where_there_is_no_role() -> None:
    assert 'identity = "web-1"' in script(settings={"identity": "web-1"})


def test_another_s3_is_told_to_the_fetching_and_to_the_service() -> None:
    text = script(aws=AwsSettings("us-east-1", "http://10.0.0.5:9000/"))
    assert f"http://10.0.0.5:9000/bucket/my/site/agent/{BUNDLE}" in text
    assert " --endpoint-url http://10.0.0.5:9000/ --wait 600\n" in text


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
