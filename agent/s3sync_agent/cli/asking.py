"""`s3sync-agent status`, `verify` and `check-config`: questions that change nothing."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path

import click
import msgspec

from s3sync_agent import drift, layout
from s3sync_agent.counts import Counts
from s3sync_agent.errors import ConfigError, DriftFound
from s3sync_agent.fields import FIELDS
from s3sync_agent.report import Status, read_status
from s3sync_agent.settings import config_files, load
from s3sync_agent.webroot import Webroot


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The status document as it is.")
@click.option("--watch", is_flag=True, help="Show it again every second until Ctrl-C.")
@click.pass_obj
def status(config: Path | None, *, as_json: bool, watch: bool) -> None:
    """What is served, what is wanted, and why they differ."""
    settings = load(config=config, environ=os.environ)
    while True:
        found = read_status(settings.run)
        if found is None:
            raise ConfigError(
                f"no agent has written {settings.run.status}",
                hint="is it running? `systemctl status s3sync-agent`; is run_dir the same as its own?",
            )
        if watch and not as_json:
            click.clear()
        click.echo(msgspec.json.encode(found).decode() if as_json else describe(found, now=time.time()))
        if not watch:
            return
        time.sleep(1)


def describe(found: Status, *, now: float) -> str:
    """The status in words, a line per fact."""
    rows = [
        ("site", found.site),
        ("serving", _serving(found)),
        ("wanted", _wanted(found)),
        ("state", _state(found)),
        ("because", found.because),
        *(("failed", f"{it.release}: {it.message}") for it in found.failed if it.message != found.because),
        ("hint", found.problem.hint if found.problem else ""),
        ("polled", _ago(found.polled_at, now)),
        ("counted", _counted(found.counts)),
        ("clock", f"{found.clock_offset:+.1f} s against S3's" if found.clock_offset else ""),
        ("on disk", ", ".join(found.staged)),
        ("agent", f"{found.version}, pid {found.pid}{'' if _alive(found.pid) else ' (not running)'}"),
    ]
    return "\n".join(f"{label:>8}  {layout.escape(text)}" for label, text in rows if text)


def _serving(found: Status) -> str:
    since = f" since {found.serving_since}" if found.serving_since else ""
    promotion = f", promotion {found.promotion_id}" if found.promotion_id else ""
    return f"{found.serving}{since}{promotion}" if found.serving else "nothing yet"


def _wanted(found: Status) -> str:
    if found.wanted == found.serving:
        return "the same" if found.wanted else "nothing yet"
    return f"{found.wanted}, behind {found.behind_seconds:.0f} s"


def _state(found: Status) -> str:
    return f"{found.state}, stale: S3 does not answer" if found.stale else found.state


def _ago(moment: str, now: float) -> str:
    if not moment:
        return "never"
    seconds = max(0.0, now - datetime.fromisoformat(moment).timestamp())
    # Written at every change and once a minute: an idle poll writes nothing.
    return f"{seconds:.0f} s ago" if seconds > 60 else "within the last minute"


def _counted(counts: Counts) -> str:
    """What happened since the agent began; what never did is left out."""
    numbers = [
        (counts.polls, "polls"),
        (counts.poll_failures, "failed polls"),
        (counts.stages, "stages"),
        (counts.stage_failures, "failed stages"),
        (counts.activations, "activations"),
        (counts.activation_failures, "failed activations"),
        (counts.drift_found, "drifted files"),
        (counts.drift_healed, "healed files"),
        (counts.drift_failed, "failed to heal"),
    ]
    return ", ".join(f"{what} {number:,}" for number, what in numbers if number)


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@click.command()
@click.pass_obj
def verify(config: Path | None) -> None:
    """Hash what is live again and compare it with its manifest."""
    settings = load(config=config, environ=os.environ)
    webroot = Webroot(settings.state)
    live = webroot.live()
    if live is None:
        raise DriftFound(f"{settings.state.live} leads to no release", hint="`s3sync-agent status` says why")
    manifest = webroot.manifest(live)
    found = drift.scan(settings.state.release(live), manifest, hashing=True, beat=lambda: None)
    for finding in found:
        click.echo(f"{finding.kind}: {layout.escape(finding.path)}")
    if found:
        raise DriftFound(
            f"{live}: {len(found)} of {len(manifest.files)} files are not what the manifest says",
            hint="a running agent heals them (drift = heal); `systemctl kill -s USR1 s3sync-agent`",
        )
    click.echo(f"{live}: {len(manifest.files)} files, {manifest.total_size:,} bytes, all as published")


@click.command("check-config")
@click.pass_obj
def check_config(config: Path | None) -> None:
    """Show the settings in force, or all their faults."""
    settings = load(config=config, environ=os.environ)
    for path in config_files(config):
        click.echo(f"# {path}")
    for field in FIELDS:
        value = getattr(settings, field.name)
        click.echo(f"# {field.name} is not set" if value is None else f"{field.name} = {_shown(value)}")


def _shown(value: object) -> str:
    if isinstance(value, layout.Site):
        return f'"{value.url}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return f"{value:g}" if isinstance(value, int | float) else f'"{value}"'
