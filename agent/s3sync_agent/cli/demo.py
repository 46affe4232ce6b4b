"""`s3sync demo`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--dir",
    "directory",
    metavar="YOUR_SITE",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The folder to watch, which is never written to.  [default: a copy of an example]",
)
@click.option(
    "--s3",
    "s3_kind",
    type=click.Choice(["moto", "seaweedfs"]),
    default="moto",
    show_default=True,
    help="Which S3 server to run.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="Where nginx listens.  [default: a free port]")
@click.option("--check", is_flag=True, help="The tour, unattended: fails at the first step that does.")
def demo(*, directory: Path | None, s3_kind: str, port: int | None, check: bool) -> None:
    """Watch it work: an S3 server, nginx and the agent, all on this machine.

    Every change that is saved in the folder is published, promoted and live in the browser seconds
    later. Needs no root, writes nothing outside a temporary folder, and leaves no process behind.
    """
    from s3sync_agent.demo import tour, watch  # noqa: PLC0415  # --help answers at once
    from s3sync_agent.demo.tools import find_tools  # noqa: PLC0415
    from s3sync_agent.demo.world import ended_by_signals  # noqa: PLC0415

    if check and (directory or port):
        raise click.UsageError("--check brings its own site and ports; leave --dir and --port out")
    tools = find_tools("seaweedfs" if s3_kind == "seaweedfs" else "moto", with_aws=check)
    with ended_by_signals():
        if check:
            tour.check(tools)
            return
        try:
            watch.play(tools, directory, port)
        except KeyboardInterrupt:  # that is how it ends
            click.echo("ended; nothing is left behind")
