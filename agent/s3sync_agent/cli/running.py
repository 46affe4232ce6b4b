"""`s3sync-agent run`."""

from __future__ import annotations

import os
import pwd
import random
import sys
from pathlib import Path

import click

from s3sync_agent import logs, memory
from s3sync_agent.bucket.s3 import S3Bucket
from s3sync_agent.clock import SystemClock
from s3sync_agent.counts import Counts
from s3sync_agent.daemon import Daemon
from s3sync_agent.errors import ConfigError
from s3sync_agent.imds import Metadata
from s3sync_agent.instance import Instance
from s3sync_agent.notify import Notifier
from s3sync_agent.report import Counted, LogAndStatusFile
from s3sync_agent.settings import Settings, config_files, load
from s3sync_agent.sync import Sync, held_error
from s3sync_agent.ticker import Ticker
from s3sync_agent.webroot import Webroot

# `run --once` waits for an activation or for settling, but not longer than this.
WAIT_AT_MOST = 60.0


@click.command()
@click.option("--once", is_flag=True, help="One whole tick to its end, then exit.")
@click.pass_obj
def run(config: Path | None, *, once: bool) -> None:
    """Keep this instance serving what the site says.

    SIGTERM ends it within two seconds and the site stays up; SIGHUP reads the settings again; SIGUSR1
    asks S3 at once.
    """
    settings = load(config=config, environ=os.environ)
    os.umask(0o022)
    memory.keep_large_blocks_apart()
    _drop_privileges(settings)
    logs.configure(settings.log_format, sys.stdout)
    if once:
        run_once(settings)
        return
    Daemon(
        settings=settings,
        load_settings=lambda: load(config=config, environ=os.environ),
        config_files=lambda: config_files(config),
        open_bucket=lambda now: S3Bucket(now.site.bucket),
        make_reporter=lambda now: LogAndStatusFile(now.run),
        clock=SystemClock(),
        notifier=Notifier(os.environ),
        metadata=Metadata(os.environ),
    ).run()


def run_once(settings: Settings) -> None:
    """Tick until nothing lies ahead within a minute. Raises what the last tick failed with."""
    clock = SystemClock()
    instance = Instance(
        settings=settings,
        bucket=S3Bucket(settings.site.bucket),
        webroot=Webroot(settings.state),
        clock=clock,
        reporter=Counted(LogAndStatusFile(settings.run), Counts()),
        beat=lambda: None,
    )
    sync = Sync(instance)
    sync.start()
    ticker = Ticker(instance, sync, random.random)
    give_up_at = clock.monotonic() + WAIT_AT_MOST + settings.plain_settle
    while True:
        attempt = ticker.attempt()
        if attempt.error is not None:
            raise attempt.error
        outcome = attempt.outcome
        assert outcome is not None, "a tick without an error has an outcome"  # noqa: S101 - for the type checker
        due = sync.next_due()
        wait = outcome.look_again
        if due is not None and due.at - clock.now() <= WAIT_AT_MOST:
            wait = max(0.0, due.at - clock.now())
        if outcome.held:
            raise held_error(outcome, settings.site)
        if wait is None:
            return
        if clock.monotonic() + wait > give_up_at:
            raise held_error(outcome, settings.site)
        clock.sleep(wait)


def _drop_privileges(settings: Settings) -> None:
    """As root, become the owner of the state directory: nothing here needs root."""
    if os.geteuid() != 0 or not settings.state_dir.exists():
        return
    owner = settings.state_dir.stat()
    if owner.st_uid == 0:
        return
    try:
        settings.run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        # That user may have put a link there, to a directory it would like to own.
        os.chown(settings.run_dir, owner.st_uid, owner.st_gid, follow_symlinks=False)
        name = pwd.getpwuid(owner.st_uid).pw_name
        os.initgroups(name, owner.st_gid)
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
    except (OSError, KeyError) as error:
        raise ConfigError(
            f"cannot become user {owner.st_uid}, who owns {settings.state_dir}: {error}",
            hint="run the agent as that user, or give the directory to an existing one",
        ) from error
