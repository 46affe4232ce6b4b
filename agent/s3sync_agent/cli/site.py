"""What nearly every operator's command begins with: which site, and a connection to its bucket."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from s3sync_agent import layout
from s3sync_agent.bucket import Bucket
from s3sync_agent.errors import UnsafePath
from s3sync_agent.layout import Site

Connect = Callable[[str], Bucket]


def on_site(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` the bucket and the site as its first arguments, from `--site` or S3SYNC_SITE.

    Tests hand in another way to connect as click's context object.
    """

    @click.option(
        "--site",
        metavar="s3://BUCKET[/PREFIX]",
        envvar="S3SYNC_SITE",
        show_envvar=True,
        required=True,
        callback=_parse_site,
        help="The site to work on.",
    )
    @click.pass_obj
    @functools.wraps(command)
    def with_site(connect: Connect | None, /, *, site: Site, **parameters: Any) -> None:
        command((connect or open_bucket)(site.bucket), site, **parameters)

    return with_site


def version_argument(name: str, *, required: bool = True) -> Callable[[Callable[..., None]], Any]:
    """A release's version on the command line; one that cannot be is a usage error."""
    metavar = name.upper() if required else f"[{name.upper()}]"
    return click.argument(name, metavar=metavar, required=required, callback=check_version)


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def open_bucket(bucket_name: str) -> Bucket:
    from s3sync_agent.bucket.s3 import S3Bucket  # noqa: PLC0415  # boto3 takes longer than the rest together

    return S3Bucket(bucket_name)


def _parse_site(_: click.Context, __: click.Parameter, value: str) -> Site:
    return layout.parse_site(value)


def check_version(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Click's callback for a version: one that cannot be is a usage error."""
    try:
        return None if value is None else layout.check_version(value)
    except UnsafePath as error:
        raise click.BadParameter(str(error)) from error
