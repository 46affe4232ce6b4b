"""`s3sync bundle` and `s3sync userdata`: what a new machine needs to become an instance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import click

from s3sync_agent.cli import render
from s3sync_agent.cli.site import Connect, as_json, open_bucket
from s3sync_agent.errors import ConfigError
from s3sync_agent.layout import escape, parse_site
from s3sync_agent.setup.aws_settings import AwsSettings


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
@click.option(
    "--upload",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Make none, but store this one in the site, for user data to fetch.",
)
@click.option(
    "--site",
    metavar="s3://BUCKET[/PREFIX]",
    envvar="S3SYNC_SITE",
    show_envvar=True,
    help="The site to store it in.",
)
@as_json
@click.pass_obj
def bundle(
    connect: Connect | None,
    *,
    wheel: Path | None,
    python: str,
    arch: Literal["x86_64", "aarch64"],
    out: Path,
    upload: Path | None,
    site: str | None,
    as_json: bool,
) -> None:
    """Pack the agent and all it needs into one file that installs itself on an instance.

    The wheels are those that the agent was tested with, by version and SHA-256; pip gets them from
    wherever it is configured to. The same wheels give the same file, byte for byte. On the instance:
    python3.12 FILE.pyz, as root. With --upload it goes to agent/ of the site, where `s3sync userdata`
    lets instances fetch it from.
    """
    if upload is not None:
        _upload(connect, upload, site)
        return
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


def _upload(connect: Connect | None, path: Path, site_url: str | None) -> None:
    from s3sync_agent.deploy.upload_bundle import upload_bundle  # noqa: PLC0415

    if site_url is None:
        raise ConfigError("which site is the bundle for?", hint="name it with --site or S3SYNC_SITE")
    site = parse_site(site_url)
    new = upload_bundle((connect or open_bucket)(site.bucket), site, path)
    click.echo(f"s3://{site.bucket}/{site.bundle(path.name)}")
    click.echo("uploaded" if new else "it was there already", err=True)


def _named_values(_context: click.Context, _option: click.Parameter, given: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE, each name once."""
    pairs = [each.partition("=") for each in given]
    names = [name for name, _, _ in pairs]
    for name, equals, _ in pairs:
        if not equals or names.count(name) > 1:
            fault = "is given twice" if equals else "is not NAME=VALUE"
            raise ConfigError(
                f"--setting {escape(name)} {fault}", hint="for example: --setting poll_interval=2"
            )
    return {name: value for name, _, value in pairs}


@click.command()
@click.option("--site", metavar="s3://BUCKET[/PREFIX]", envvar="S3SYNC_SITE", show_envvar=True, required=True)
@click.option(
    "--region",
    envvar=["AWS_DEFAULT_REGION", "AWS_REGION"],
    show_envvar=True,
    required=True,
    help="The bucket's region.",
)
@click.option(
    "--endpoint-url",
    envvar="AWS_ENDPOINT_URL",
    show_envvar=True,
    default="",
    help="Another S3 than AWS's, for the instance.",
)
@click.option(
    "--bundle",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The bundle, as it is stored below agent/ in the site.",
)
@click.option(
    "--role-id",
    metavar="AROA…",
    default="",
    help="The id of the instances' role: each is then called as IAM policies know it, ROLE-ID:INSTANCE-ID.",
)
@click.option(
    "--setting",
    "settings",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_named_values,
    help="Another setting of the agent; may be given several times.",
)
@click.option(
    "--amazon-linux",
    is_flag=True,
    help="For Amazon Linux 2023 alone: shorter, and fetches the bundle with its aws command.",
)
@click.option(
    "--on-end", default="", help="A command that learns S3SYNC_RESULT and S3SYNC_REASON at the end."
)
@click.option(
    "--wait",
    type=click.IntRange(1, 43_200),
    default=600,
    show_default=True,
    help="Seconds that the first release may take.",
)
def userdata(
    *,
    site: str,
    region: str,
    endpoint_url: str,
    file: Path,
    role_id: str,
    settings: dict[str, str],
    amazon_linux: bool,
    on_end: str,
    wait: int,
) -> None:
    """Print the boot script of an instance: packages, bundle, setup, first release."""
    with _deploy_extra():
        from s3sync_agent.deploy.userdata import render as render_script  # noqa: PLC0415
    script = render_script(
        parse_site(site),
        aws=AwsSettings(region, endpoint_url),
        bundle=file.name,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        role_id=role_id,
        settings=settings,
        amazon_linux=amazon_linux,
        on_end=on_end,
        wait=wait,
    )
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
