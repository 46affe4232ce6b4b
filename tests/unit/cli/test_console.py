from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from s3sync_agent.cli.console import Commands, Lazy, redact
from s3sync_agent.errors import (
    AgentBusy,
    ConfigError,
    FleetError,
    PointerConflict,
    ReleaseRefused,
    StoreDenied,
    StoreUnavailable,
)

failure: BaseException


@click.command()
def fail() -> None:
    raise failure


@click.command()
def interrupt_myself() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in a shell's background it is ignored
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()


@click.command()
def talk() -> None:
    for _ in range(100_000):
        click.echo("x" * 100)


@click.command()
def look_for_terminals() -> None:
    click.echo(f"{sys.stdout.isatty()} {sys.stderr.isatty()}")


commands = Commands(
    name="tool",
    lazy={
        name: Lazy(f"{__name__}:{name.replace('-', '_')}", f"To {name}.")
        for name in ("fail", "interrupt-myself", "talk", "look-for-terminals")
    },
)


def ending_with(error: BaseException, *arguments: str) -> Result:
    global failure  # noqa: PLW0603  # the command is imported by name and takes no arguments
    failure = error
    return CliRunner().invoke(commands, ["fail", *arguments], prog_name="tool")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (AgentBusy("x"), 2),
        (StoreUnavailable("x"), 3),
        (StoreDenied("x"), 3),
        (ReleaseRefused("x"), 4),
        (PointerConflict("x"), 5),
        (FleetError("x"), 6),
    ],
)
def test_every_expected_error_has_its_exit_code(error: Exception, code: int) -> None:
    assert ending_with(error).exit_code == code


def test_an_expected_error_is_one_line_and_a_hint_on_stderr() -> None:
    result = ending_with(ReleaseRefused("v2 has no index.html", hint="--force promotes it all the same"))
    assert result.stdout == ""
    assert result.stderr == "error: v2 has no index.html\nhint: --force promotes it all the same\n"


def test_an_error_without_a_hint_is_one_line() -> None:
    assert ending_with(ReleaseRefused("no")).stderr == "error: no\n"


def test_an_error_that_lists_faults_keeps_its_lines_apart() -> None:
    assert ending_with(ConfigError("two faults:\na\nb")).stderr == "error: two faults:\n  a\n  b\n"


def test_what_an_error_quotes_cannot_move_the_cursor() -> None:
    assert ending_with(ReleaseRefused("bad \x1b[2J name")).stderr == "error: bad \\x1b[2J name\n"


def test_wrong_usage_ends_with_2() -> None:
    result = ending_with(ReleaseRefused("never reached"), "--nonsense")
    assert result.exit_code == 2
    assert "No such option" in result.stderr
    assert CliRunner().invoke(commands, ["nonsense"]).exit_code == 2


def test_an_interrupt_ends_with_130() -> None:
    result = ending_with(KeyboardInterrupt())
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


# ------------------------------------------------------------------ unexpected errors


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_an_unexpected_error_is_saved_as_a_report_and_ends_with_1(
    reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["tool", "fail", "--endpoint", "https://me:secret@host/"])
    result = ending_with(ValueError("token=abc123 went wrong"))
    assert result.exit_code == 1
    (report,) = reports.iterdir()
    assert f"report it with {report}" in result.stderr
    assert len(result.stderr.splitlines()) == 2
    text = report.read_text()
    assert re.match(r"s3sync-agent \d+\.\d+\.\d+, Python 3", text)
    assert "command: tool fail --endpoint https://[removed]@host/" in text
    assert "Traceback (most recent call last)" in text
    assert "ValueError: token=[removed] went wrong" in text
    assert "abc123" not in text + result.stderr
    assert report.stat().st_mode & 0o077 == 0


def test_a_report_that_cannot_be_saved_is_printed(reports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(reports / "missing"))
    result = ending_with(ValueError("odd"))
    assert result.exit_code == 1
    assert "no report could be saved" in result.stderr
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("https://h/k?X-Amz-Signature=0a1b&X-Amz-Expires=9", "0a1b"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUt/nFEMI", "wJalr"),
        ("aws_session_token: 'FwoGZX'", "FwoGZX"),
        ('{"password": "hunter2"}', "hunter2"),
        ("key AKIAIOSFODNN7EXAMPLE is not known", "AKIA"),
        ("https://user:pass@host/x", "pass"),
        ("{'X-Amz-Security-Token': b'FwoGZX'}", "FwoGZX"),
        ("{'Authorization': b'AWS4-HMAC-SHA256 Credential=x/us, Signature=0a1b'}", "0a1b"),
        ("Authorization: Bearer eyJhbG", "eyJhbG"),
        ("https://h/k?AWSAccessKeyId=x&Signature=0a1b%3D&Expires=9", "0a1b"),
    ],
)
def test_what_looks_like_a_credential_is_removed(text: str, hidden: str) -> None:
    assert hidden in text
    assert hidden not in redact(text)


def test_ordinary_text_is_left_as_it_is() -> None:
    text = "s3://bucket/site/releases/v1/index.html: the pointer's token was not found at 18:15:07"
    assert redact(text) == text


# -------------------------------------------------------------------- real processes


def start(name: str, *, stdout: int) -> subprocess.Popen[bytes]:
    code = f"from {__name__} import commands; commands(['{name}'])"
    return subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=stdout, cwd=Path(__file__).parents[3]
    )


def test_a_real_interrupt_ends_with_130_and_no_traceback() -> None:
    process = start("interrupt-myself", stdout=subprocess.DEVNULL)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors == b"interrupted\n"


def test_a_reader_that_went_away_is_not_worth_a_word() -> None:
    reading, writing = os.pipe()
    process = start("talk", stdout=writing)
    os.close(writing)
    os.read(reading, 10)
    os.close(reading)
    _, errors = process.communicate(timeout=20)
    assert errors == b""
    assert process.returncode == 141


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_output_is_no_failure(closed: str) -> None:
    code = f"from {__name__} import commands; commands(['look-for-terminals'])"
    command = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code]
    top = Path(__file__).parents[3]
    done = subprocess.run(command, capture_output=True, cwd=top, check=False, timeout=20)
    assert (done.returncode, done.stderr) == (0, b"")
