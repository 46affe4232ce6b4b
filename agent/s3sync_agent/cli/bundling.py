"""`s3sync bundle` and `s3sync userdata`: what a new machine needs to become an instance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import click

from s3sync_agent.cli import render
from s3sync_agent.cli.site import as_json
from s3sync_agent.errors import ConfigError
from s3sync_agent.layout import parse_site


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
    with _deploy_extra():  # imported here, so that --help answers at once
        from s3sync_agent.deploy.bundle import find_wheel, make_bundle  # noqa: PLC0415
        from s3sync_agent.deploy.wheels import Target  # noqa: PLC0415
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


@click.command()
@click.option("--site", metavar="s3://BUCKET[/PREFIX]", envvar="S3SYNC_SITE", show_envvar=True, required=True)
@click.option("--region", envvar="AWS_REGION", show_envvar=True, required=True, help="The bucket's region.")
@click.option(
    "--bundle",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The bundle, as it is stored below agent/ in the site.",
)
@click.option(
    "--on-end", default="", help="A command that learns S3SYNC_RESULT and S3SYNC_REASON at the end."
)
def userdata(*, site: str, region: str, file: Path, on_end: str) -> None:
    """Print the boot script of an instance: packages, bundle, setup, first release."""
    with _deploy_extra():
        from s3sync_agent.deploy.userdata import render as render_script  # noqa: PLC0415
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    script = render_script(parse_site(site), region=region, bundle=file.name, sha256=sha256, on_end=on_end)
    click.echo(script, nl=False)


@contextmanager
def _deploy_extra() -> Iterator[None]:
    """What only the `deploy` extra brings is imported within."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in {"packaging", "jinja2"}:
            raise
        raise ConfigError(
            f"the package {error.name} is not installed here", hint="pip install 's3sync-agent[deploy]'"
        ) from error
