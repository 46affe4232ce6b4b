"""`s3sync verify` and `s3sync prune`: are the releases in S3 whole, and which may go."""

from __future__ import annotations

import click

from s3sync_agent.bucket import Bucket
from s3sync_agent.cli import render
from s3sync_agent.cli.site import as_json, on_site, version_argument
from s3sync_agent.errors import DigestMismatch
from s3sync_agent.layout import Site, escape


@click.command()
@version_argument("version")
@as_json
@on_site
def verify(bucket: Bucket, site: Site, *, version: str, as_json: bool) -> None:
    """Read all of the release VERSION in S3 and list every fault; ends with 4 when there is one."""
    from s3sync_agent.deploy.verify import verify_release  # noqa: PLC0415  # --help answers at once

    found = verify_release(bucket, site, version)
    if as_json:
        render.print_json(found)
    else:
        for fault in found.faults:
            click.echo(escape(fault))
    if found.faults:
        raise DigestMismatch(
            f"release {version} has {render.plural(len(found.faults), 'fault')}",
            hint="publish the site again under a new version and promote that",
        )
    if not as_json:
        single = f"{found.browsable} browsable objects" if found.browsable else "no browsable objects"
        click.echo(
            f"release {version} is whole: {render.plural(found.files, 'file')}, "
            f"pack of {render.size(found.pack_size)}, {single}"
        )


@click.command()
@click.option("--keep", type=click.IntRange(min=1), required=True, metavar="N", help="How many stay.")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@as_json
@on_site
def prune(bucket: Bucket, site: Site, *, keep: int, dry_run: bool, as_json: bool) -> None:
    """Delete old releases from S3.

    What stays: whatever the pointer names, the release a rollback would go to, the N most recently
    promoted and the N most recently published; and folders without a manifest.
    """
    from s3sync_agent.deploy.prune import prune as prune_releases  # noqa: PLC0415

    gone = []
    for release in prune_releases(bucket, site, keep=keep, dry_run=dry_run):
        gone.append(release)
        if not as_json:
            done = "would delete" if dry_run else "deleted"
            count = render.plural(release.objects, "object")
            click.echo(f"{done} {release.version} ({count}, {render.size(release.size)})")
    if as_json:
        render.print_json(gone)
    elif not gone:
        click.echo("nothing to delete")
