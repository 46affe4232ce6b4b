"""`s3sync-agent`: the daemon, and what an operator asks it on the instance."""

from __future__ import annotations

from pathlib import Path

import click

from s3sync_agent import __version__
from s3sync_agent.cli.console import Commands, Lazy


@click.group(
    cls=Commands,
    lazy={
        "run": Lazy("s3sync_agent.cli.running:run", "Keep this instance serving what the site says."),
        "status": Lazy(
            "s3sync_agent.cli.asking:status", "What is served, what is wanted, and why they differ."
        ),
        "verify": Lazy(
            "s3sync_agent.cli.asking:verify", "Hash what is live again and compare it with its manifest."
        ),
        "check-config": Lazy(
            "s3sync_agent.cli.asking:check_config", "Show the settings in force, or all their faults."
        ),
        "setup": Lazy("s3sync_agent.cli.setting_up:setup", "Make this machine serve a site; or undo that."),
    },
)
@click.version_option(__version__, prog_name="s3sync-agent")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="S3SYNC_CONFIG",
    help="Configuration file; config.d/*.toml beside it is read too.  "
    "[default: /etc/s3sync-agent/config.toml]",
)
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """Serve a site from S3 on this instance: staged, verified, swapped at once.

    Every setting can be given as S3SYNC_<NAME> in the environment.
    """
    ctx.obj = config
