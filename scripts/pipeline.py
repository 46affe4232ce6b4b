"""What a pipeline does with a site: publish a folder and make it live, or roll back; then say what changed.

    python scripts/pipeline.py publish --dir public
    python scripts/pipeline.py rollback
    python scripts/pipeline.py rollback --version 20261122T181500Z-1a2b3c4

All work is done by `s3sync`, whose calls are shown as anybody could repeat them. The site comes from
S3SYNC_SITE, credentials are the AWS SDK's own business. With `--url` it waits until the site answers with
the release. In GitHub Actions it writes the summary of the job (GITHUB_STEP_SUMMARY), the outputs `version`
and `url` (GITHUB_OUTPUT), and an annotation when something fails. Ends with the exit codes of `s3sync`.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from s3sync_agent import layout
from s3sync_agent.bucket import Bucket
from s3sync_agent.cli.site import open_bucket
from s3sync_agent.deploy.releases import Difference, diff, load_manifest, read_pointer
from s3sync_agent.errors import ConfigError, FleetError, ReleaseError, S3SyncError
from s3sync_agent.layout import Site
from s3sync_agent.pointer import ReleaseRef
from s3sync_agent.release import FileEntry, Manifest, digest

SHOWN = 100  # paths in a summary
SERVED_SECONDS = 180  # instances poll every 5 s, go live 10 s later, and may have much to download first
IN_A_ROW = 5  # answers: behind a balancer each may come from another instance
ANSWER_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """The command line. `version` and `url` are "" when not given."""

    command: str
    folder: str
    version: str
    url: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is live now, and what was `before` ("" when nothing was). `difference` is None when the two
    cannot be compared."""

    site: Site
    live: ReleaseRef
    manifest: Manifest
    before: str
    difference: Difference | None


class CommandFailed(S3SyncError):
    """A call of `s3sync` failed: its own message, hint and exit code."""

    def __init__(self, message: str, *, hint: str, exit_code: int) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


def main(arguments: Sequence[str]) -> int:
    asked = _asked(arguments)
    try:
        _run(asked)
    except S3SyncError as error:
        _tell_failure(asked, error)
        return error.exit_code
    return 0


def _asked(arguments: Sequence[str]) -> Asked:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("command", choices=("publish", "rollback"))
    parser.add_argument("--dir", default="", help="the folder to publish", metavar="DIR")
    parser.add_argument("--version", default="", help="the release's name; for a rollback: which one")
    parser.add_argument("--url", default="", help="where visitors find the site")
    found = parser.parse_args(arguments)
    return Asked(found.command, found.dir, found.version, found.url)


def _run(asked: Asked) -> None:
    site = layout.parse_site(os.environ.get("S3SYNC_SITE", ""))
    if asked.url and not _is_address(asked.url):
        raise ConfigError(f"url {layout.escape(asked.url)!r} is not http://… or https://…")
    bucket = open_bucket(site.bucket)
    before = _active(bucket, site)
    if asked.command == "publish":
        _publish(asked)
    else:
        s3sync("rollback", *(["--", asked.version] if asked.version else []))
    outcome = _outcome(bucket, site, before)
    _output("version", outcome.live.version)
    _output("url", asked.url)
    served = _wait_until_served(asked.url, outcome) if asked.url else _instances_take_it(outcome)
    _summarise(_report(asked, outcome, served))


def _is_address(url: str) -> bool:
    if not re.fullmatch(r"https?://\S+", url):
        return False
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port  # which is looked at only now
    except ValueError:  # a port that is no number, a bracket that is not closed
        return False
    return bool(parts.hostname)


def _publish(asked: Asked) -> None:
    if not asked.folder:
        raise ConfigError("there is no folder to publish", hint="name it: --dir, or site-dir of the action")
    named = ["--version", asked.version] if asked.version else []
    version = s3sync("publish", *named, "--", asked.folder).strip()
    s3sync("promote", version)


def _active(bucket: Bucket, site: Site) -> ReleaseRef | None:
    found = read_pointer(bucket, site)
    return found[0].pointer.active if found else None


def _outcome(bucket: Bucket, site: Site, before: ReleaseRef | None) -> Outcome:
    live = _active(bucket, site)
    if live is None:
        raise ReleaseError(f"there is no pointer in {site.url}: somebody removed it just now")
    manifest = load_manifest(bucket, site, live.version, live.manifest_sha256).manifest
    if before is None:
        return Outcome(site, live, manifest, "", None)
    try:
        former = load_manifest(bucket, site, before.version, before.manifest_sha256).manifest
    except ReleaseError:  # a broken one may have been the reason for a rollback
        return Outcome(site, live, manifest, before.version, None)
    return Outcome(site, live, manifest, before.version, diff(former, manifest))


# ------------------------------------------------------------------------------- s3sync


def s3sync(*arguments: str) -> str:
    """Run the command, its messages shown as they come; returns its stdout. Raises CommandFailed."""
    # -P: nothing is imported from the working directory, which is that of the site.
    command = [sys.executable, "-P", "-m", "s3sync_agent.cli.operator", *arguments]
    messages = []
    with _no_workflow_commands(), tempfile.TemporaryFile("w+", encoding="utf-8") as stdout:
        print(f"$ s3sync {shlex.join(arguments)}", flush=True)
        with (
            _cancelled_together() as children,
            subprocess.Popen(
                command,
                stdout=stdout,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # Ctrl-C comes to this process alone, and is passed on once
            ) as process,
        ):
            children.append(process)
            for line in process.stderr or ():
                print(line, end="", flush=True)
                messages.append(line.rstrip("\n"))
        stdout.seek(0)
        printed = stdout.read()
        print(printed, end="", flush=True)
    if process.returncode != 0:
        raise CommandFailed(
            _said("error", messages) or f"s3sync {arguments[0]} ended with {process.returncode}",
            hint=_said("hint", messages),
            exit_code=process.returncode,
        )
    return printed


@contextmanager
def _cancelled_together() -> Iterator[list[subprocess.Popen[str]]]:
    """Who cancels the job interrupts these, and hears what they say to it. The runner tells the first process
    of a step alone."""
    children: list[subprocess.Popen[str]] = []

    def interrupt(*_: object) -> None:
        for child in children:
            child.send_signal(signal.SIGINT)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield children
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _said(label: str, messages: Sequence[str]) -> str:
    """What follows `label: `, with the indented lines below it; "" when there is no such line."""
    text = re.search(rf"^{label}: (.*(?:\n  .*)*)", "\n".join(messages), re.MULTILINE)
    return text[1] if text else ""


# -------------------------------------------------------------------------- is it served


def _instances_take_it(outcome: Outcome) -> str:
    if outcome.live.activate_at:
        return f"from {outcome.live.activate_at} on, by all instances"
    return "by each instance at its next poll"


def _wait_until_served(url: str, outcome: Outcome) -> str:
    """Until the site answers with the release; what was seen, for the summary. Raises FleetError."""
    entry = _telling_file(outcome)
    if entry is None:
        return "no page differs, so nothing tells the releases apart"
    address = f"{url.rstrip('/')}/{urllib.parse.quote(entry.path)}"
    print(f"waiting until {address} is that of {outcome.live.version}", flush=True)
    started = time.monotonic()
    right = 0
    while right < IN_A_ROW:
        wrong = _wrong_answer(address, entry)
        right = 0 if wrong else right + 1
        if wrong and time.monotonic() - started > SERVED_SECONDS:
            raise FleetError(
                f"{outcome.live.version} is promoted, but after {SERVED_SECONDS:.0f} s {address} has {wrong}",
                hint="`s3sync-agent status` on an instance says why; a rollback goes back",
            )
        time.sleep(0.5)
    return f"{address} had it {time.monotonic() - started:.0f} s after the promotion"


def _telling_file(outcome: Outcome) -> FileEntry | None:
    """A file that tells the live release from the one before: no fingerprinted one, which is served as soon
    as it is staged, and none with a name that nginx does not serve."""
    between = outcome.difference
    new = None if between is None else {change.path for change in (*between.added, *between.changed)}
    telling = (
        entry
        for entry in outcome.manifest.files
        if (new is None or entry.path in new) and not entry.immutable and "/." not in f"/{entry.path}"
    )
    return min(telling, key=lambda entry: (entry.path != layout.INDEX, entry.size), default=None)


def _wrong_answer(address: str, entry: FileEntry) -> str:
    """What was answered instead of `entry`, or ""."""
    try:
        with urllib.request.urlopen(address, timeout=ANSWER_SECONDS) as answer:  # noqa: S310  # http(s) only
            body = answer.read(entry.size + 1)
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except (OSError, http.client.HTTPException) as error:
        return f"no answer ({error})"
    return "" if digest(body) == entry.sha256 else "other content"


# --------------------------------------------------------------- for GitHub, and for people


def _report(asked: Asked, outcome: Outcome, served: str) -> str:
    """The outcome in Markdown."""
    done = "Published" if asked.command == "publish" else "Rolled back to"
    rows = {
        "site": _code(outcome.site.url),
        "URL": asked.url,
        "before": _code(outcome.before) if outcome.before else "nothing",
        "changes": _counts(outcome),
        "served": served,
    }
    table = "".join(f"| {name} | {text} |\n" for name, text in rows.items() if text)
    return f"### {done} {_code(outcome.live.version)}\n\n| | |\n|---|---|\n{table}\n{_paths(outcome)}"


def _counts(outcome: Outcome) -> str:
    between = outcome.difference
    if between is None:
        return f"{len(outcome.manifest.files)} files" if not outcome.before else "cannot be compared any more"
    return (
        f"{len(between.added)} added, {len(between.changed)} changed, {len(between.removed)} removed, "
        f"{between.unchanged} the same"
    )


def _paths(outcome: Outcome) -> str:
    """The paths that differ, as a block that no path can end: each line begins with a sign."""
    between = outcome.difference
    if between is None:
        return ""
    marked = (("+", between.added), ("!", between.changed), ("-", between.removed))
    lines = [f"{sign} {layout.escape(change.path)}\n" for sign, changes in marked for change in changes]
    more = f"\n… and {len(lines) - SHOWN} more: `s3sync diff {outcome.before} {outcome.live.version}`\n"
    block = f"```diff\n{''.join(lines[:SHOWN])}```\n" if lines else ""
    return block + (more if len(lines) > SHOWN else "")


def _code(text: str) -> str:
    return f"`{text}`"


def _tell_failure(asked: Asked, error: S3SyncError) -> None:
    text = f"{error}\nhint: {error.hint}" if error.hint else str(error)
    if not isinstance(error, CommandFailed):  # whose messages were shown already
        print(f"error: {text}", file=sys.stderr)
    if _in_actions():
        print(f"::error title={asked.command} failed::{annotation(text)}", flush=True)
    quoted = "".join(f"    {line}\n" for line in text.splitlines())
    _summarise(f"### {asked.command.capitalize()} failed\n\n{quoted}")


def annotation(text: str) -> str:
    """`text` as GitHub's workflow commands take it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


@contextmanager
def _no_workflow_commands() -> Iterator[None]:
    """What is printed in between is text to GitHub's runner, also a line that begins with a file called
    `::error::`."""
    if not _in_actions():
        yield
        return
    token = secrets.token_hex(16)
    print(f"::stop-commands::{token}", flush=True)
    try:
        yield
    finally:
        print(f"::{token}::", flush=True)


def _in_actions() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"


def _summarise(markdown: str) -> None:
    _append("GITHUB_STEP_SUMMARY", markdown)


def _output(name: str, value: str) -> None:
    _append("GITHUB_OUTPUT", f"{name}={value}\n")


def _append(variable: str, text: str) -> None:
    path = os.environ.get(variable)
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
