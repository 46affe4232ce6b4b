"""`s3sync bundle`: the agent and all it needs, as one file for instances."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from s3sync_agent.cli import render
from s3sync_agent.cli.site import as_json
from s3sync_agent.errors import ConfigError


@click.command()
@click.option(
    "--wheel",
    type=click.Path(path_type=Path),
    help="The wheel of s3sync-agent to pack.  [default: the one in dist/]",
)
@click.option(
    "--python",
    type=click.Choice(["3.11", "3.12", "3.13", "3.14"]),
    default="3.12",
    show_default=True,
    help="The Python that instances have.",
)
@click.option(
    "--arch",
    type=click.Choice(["x86_64", "aarch64"]),
    default="x86_64",
    show_default=True,
    help="The processor that instances have.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("dist"),
    show_default=True,
    help="The directory to write into.",
)
@as_json
def bundle(
    *, wheel: Path | None, python: str, arch: Literal["x86_64", "aarch64"], out: Path, as_json: bool
) -> None:
    """Pack the agent and all it needs into one file that installs itself on an instance.

    The wheels are those that the agent was tested with, by version and SHA-256; pip gets them from
    wherever it is configured to. The same wheels give the same file, byte for byte. On the instance:
    python3.12 FILE.pyz, as root.
    """
    try:
        from s3sync_agent.deploy.bundle import find_wheel, make_bundle  # noqa: PLC0415  # --help answers at once
        from s3sync_agent.deploy.wheels import Target  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "packaging":
            raise
        raise ConfigError(
            "the package `packaging` is not installed here", hint="pip install 's3sync-agent[deploy]'"
        ) from error
    made = make_bundle(wheel or find_wheel(Path("dist")), Target(python, arch), out)
    if as_json:
        render.print_json(
            {
                **{name: getattr(made, name) for name in ("size", "sha256", "version", "python", "arch")},
                "path": str(made.path),
            }
        )
    else:
        click.echo(made.path)
        click.echo(f"{render.size(made.size)}, sha256 {made.sha256}", err=True)
