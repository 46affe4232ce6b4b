"""How far a publish is: a bar on a terminal, one line for each stage elsewhere. On stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from s3sync_agent.cli import render
from s3sync_agent.deploy.progress import Progress, Stage

_DOING: dict[Stage, str] = {"hash": "hashing", "pack": "packing", "upload": "uploading"}


@contextmanager
def shown() -> Iterator[Progress]:
    """A callback that shows what it is told for as long as the block runs."""
    if sys.stderr.isatty():
        try:
            import rich  # noqa: F401, PLC0415  # only the `deploy` extra has it
        except ImportError:
            yield _line
        else:
            with _bars() as progress:
                yield progress
    else:
        yield _line


def _line(stage: Stage, done: int, total: int) -> None:
    if done == 0:
        click.echo(f"{_DOING[stage]} {render.size(total)}", err=True)


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich import progress as bars  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    with bars.Progress(
        bars.TextColumn("{task.description:<9}"),
        bars.BarColumn(),
        bars.DownloadColumn(binary_units=True),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as display:
        tasks: dict[Stage, bars.TaskID] = {}

        def update(stage: Stage, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = display.add_task(_DOING[stage], total=total)
            display.update(tasks[stage], completed=done, total=total)

        yield update
