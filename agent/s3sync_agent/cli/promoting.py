"""`s3sync promote` and `s3sync rollback`."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
from typing import TYPE_CHECKING

import click

from s3sync_agent.bucket import Bucket
from s3sync_agent.cli.console import show_warning
from s3sync_agent.cli.render import plural
from s3sync_agent.cli.site import on_site, version_argument
from s3sync_agent.errors import ReleaseError, StoreError
from s3sync_agent.layout import Site

if TYPE_CHECKING:  # commands import what they do when they do it: --help answers at once
    from s3sync_agent.deploy.promote import Promotion

_no_mirror = click.option("--no-mirror", is_flag=True, help="Leave the files in current/ as they are.")
_reason = click.option("--reason", metavar="TEXT", default="", help="Why; shown in the history.")


@click.command()
@version_argument("version")
@click.option("--now", is_flag=True, help="At once, without staging on all instances first.")
@click.option("--force", is_flag=True, help="Go over the guards, and over a pointer that cannot be read.")
@_no_mirror
@_reason
@on_site
def promote(
    bucket: Bucket, site: Site, *, version: str, now: bool, force: bool, no_mirror: bool, reason: str
) -> None:
    """Make VERSION live on every instance.

    Refused without --force: a release with less than half of the files of the active one (the first time: of
    those in current/), or without its index.html; and when the active release cannot be read, so that
    nobody can compare.

    When the pointer is written but current/ could not be brought up to date, the release is promoted all
    the same and the command ends with 3.
    """
    from s3sync_agent.deploy.promote import promote_now  # noqa: PLC0415

    if not now:
        raise click.UsageError("promotion in two phases is not there yet; use --now")
    promotion = promote_now(
        bucket,
        site,
        version,
        promotion_id=secrets.token_hex(16),
        by=_promoter(),
        reason=reason,
        force=force,
    )
    for objection in promotion.overridden:
        show_warning(f"forced: {objection}")
    _tell_and_mirror(bucket, site, promotion, no_mirror=no_mirror)


@click.command()
@version_argument("version", required=False)
@_no_mirror
@_reason
@on_site
def rollback(bucket: Bucket, site: Site, *, version: str | None, no_mirror: bool, reason: str) -> None:
    """Make VERSION live again, or the release before the live one.

    A second rollback goes further back, not forth. Nothing is read of the release that is left, so this
    works however broken it is.
    """
    from s3sync_agent.deploy import promote  # noqa: PLC0415

    promotion = promote.rollback(
        bucket,
        site,
        version,
        promotion_id=secrets.token_hex(16),
        by=_promoter(),
        reason=reason,
        tell=lambda text: click.echo(text, err=True),
    )
    _tell_and_mirror(bucket, site, promotion, no_mirror=no_mirror)


def _promoter() -> str:
    """Who is promoting: the GitHub actor, otherwise `user@host`."""
    actor = os.environ.get("GITHUB_ACTOR", "")
    if actor:
        return actor
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _tell_and_mirror(bucket: Bucket, site: Site, promotion: Promotion, *, no_mirror: bool) -> None:
    pointer, before = promotion.pointer, promotion.before
    version = pointer.active.version
    when = f", live at {pointer.active.activate_at}" if pointer.active.activate_at else ""
    after = f", after {before.active.version}" if before else ""
    click.echo(f"promoted {version}{after} (sequence {pointer.sequence}{when})")
    if not no_mirror:
        _mirror(bucket, site, promotion)


def _mirror(bucket: Bucket, site: Site, promotion: Promotion) -> None:
    """Bring `current/` up to date. The pointer has been moved and stays: a failure here is told as
    what it is, and as S3's (exit code 3), because nothing else can be done than trying again."""
    from s3sync_agent.deploy.mirror import mirror  # noqa: PLC0415

    ref = promotion.pointer.active
    try:
        mirrored = mirror(bucket, site, ref, promotion.manifest)
    except (StoreError, ReleaseError) as error:
        raise StoreError(
            f"{ref.version} is promoted, but current/ was not brought up to date: {error}",
            hint=f"agents deploy all the same; `s3sync promote {ref.version} --now` tries the mirror again",
        ) from error
    if mirrored.outcome == "left":
        click.echo("current/ was left as it is: the release was published with --no-files", err=True)
    elif mirrored.outcome == "superseded":
        show_warning(f"current/ is not finished: the pointer is at {mirrored.winner} now")
    else:
        counts = f"{plural(mirrored.copied, 'object')} copied, {mirrored.deleted} deleted"
        click.echo(f"current/ shows it: {counts}", err=True)
