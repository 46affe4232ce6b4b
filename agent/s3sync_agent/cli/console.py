"""How every command starts and ends: commands imported when called, errors turned into exit codes.

This is the only place that knows exit codes. Expected errors are one line with `error:` and, when
there is something to do about it, one with `hint:`, on stderr. Anything else is a fault of this
program: exit 1 with a saved report. The numbers are explained in docs/exit-codes.md.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import click

from s3sync_agent import __version__
from s3sync_agent.errors import S3SyncError
from s3sync_agent.layout import escape

EXIT_UNEXPECTED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells say it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE


class Lazy(NamedTuple):
    """Where a command is (`module:attribute`), and its line in `--help`, which then imports nothing."""

    target: str
    summary: str


class Commands(click.Group):
    """The top of a command line: imports a command when it is called, and ends as DESIGN says."""

    def __init__(self, *, lazy: Mapping[str, Lazy], **attrs: Any) -> None:
        super().__init__(**attrs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = self.lazy.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self.lazy.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; every way it can fail becomes an exit code here."""
        _open_closed_streams()
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (click.exceptions.Exit, click.ClickException):
            raise  # --help, and usage errors: click prints them and ends with 2
        except S3SyncError as error:
            show_error(error)
            ctx.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            click.echo("interrupted", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            _forget_stdout()
            ctx.exit(EXIT_BROKEN_PIPE)
        except Exception as error:  # noqa: BLE001  # the last line of defence: reported, never hidden
            _show_unexpected(error)
            ctx.exit(EXIT_UNEXPECTED)
        return result


def show_error(error: S3SyncError) -> None:
    """`error: …` and `hint: …` on stderr."""
    _show("error", str(error))
    if error.hint:
        _show("hint", error.hint)


def show_warning(text: str) -> None:
    """`warning: …` on stderr."""
    _show("warning", text)


def _show(label: str, text: str) -> None:
    first, *more = text.splitlines() or [""]
    click.echo(f"{label}: {escape(first)}", err=True)
    for line in more:
        click.echo(f"  {escape(line)}", err=True)


def _open_closed_streams() -> None:
    """Started with `>&-`, Python has None where everybody expects a stream."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  # open as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115


def _forget_stdout() -> None:
    """Whoever read stdout is gone; Python's own flush at exit must not complain about it."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, sys.stdout.fileno())
    finally:
        os.close(devnull)


# ------------------------------------------------------------------ unexpected errors


def _show_unexpected(error: Exception) -> None:
    _show("error", f"unexpected {type(error).__name__}: {redact(str(error))}")
    try:
        path = _save_report(error, sys.argv)
    except OSError as failure:
        _show("hint", f"no report could be saved ({failure}); it would have said:")
        click.echo(redact("".join(traceback.format_exception(error))), err=True)
        return
    _show("hint", f"this is a fault in s3sync-agent; please report it with {path}")


def _save_report(error: Exception, argv: Sequence[str]) -> str:
    """Write what a maintainer needs, readable by this user alone; returns the path."""
    descriptor, path = tempfile.mkstemp(prefix="s3sync-report-", suffix=".txt")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as report:
        report.write(
            f"s3sync-agent {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
            f"command: {redact(' '.join(argv))}\n\n"
            f"{redact(''.join(traceback.format_exception(error)))}"
        )
    return path


_SECRETS = (
    re.compile(r"(?i)((?:X-Amz-(?:Credential|Security-Token)|Signature)=)[^&\s'\"]+"),
    re.compile(r"(?i)(\bauthorization['\"]?\s*[=:]\s*(?:b?['\"])?)[^'\"\r\n]+"),
    re.compile(
        r"(?i)((?:secret|token|password|access[_-]?key)[\w-]*['\"]?\s*[=:]\s*(?:b?['\"])?)[^\s&'\",]+"
    ),
    re.compile(r"()\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    re.compile(r"(://)[^/@\s]+(?=@)"),
)


def redact(text: str) -> str:
    """`text` without what looks like a credential: keys, tokens, presigned queries, passwords."""
    for pattern in _SECRETS:
        text = pattern.sub(r"\1[removed]", text)
    return text
