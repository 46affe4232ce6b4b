"""`s3sync check` and `s3sync publish`: from a folder to a release in S3."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from s3sync_agent.bucket import Bucket
from s3sync_agent.cli import render
from s3sync_agent.cli.console import show_warning
from s3sync_agent.cli.site import as_json, check_version, on_site
from s3sync_agent.errors import ReleaseRefused
from s3sync_agent.layout import Site, escape

_folder = click.argument("root", metavar="DIR", type=click.Path(path_type=Path))


@click.command()
@_folder
@click.option("--strict", is_flag=True, help="Fail on warnings too.")
@as_json
def check(*, root: Path, strict: bool, as_json: bool) -> None:
    """Look for faults in the folder DIR, as publish would; ends with 4 when there is an error.

    Errors: no index.html at the top, names that are reserved or unsafe, links that leave the folder, and
    such. Warnings: names that collide on other systems, local links in HTML and CSS that lead nowhere.
    """
    from s3sync_agent.deploy.check import check_site  # noqa: PLC0415  # --help answers at once

    report = check_site(root)
    if as_json:
        render.print_json({"files": len(report.files), "findings": report.findings})
    else:
        for finding in report.findings:
            click.echo(str(finding))
    counts = (
        f"{render.plural(len(report.errors), 'error')} and {render.plural(len(report.warnings), 'warning')} "
        f"in {render.plural(len(report.files), 'file')}"
    )
    if report.errors or (strict and report.warnings):
        raise ReleaseRefused(f"{escape(str(root))!r} has {counts}")
    click.echo(counts, err=True)


@click.command()
@_folder
@click.option(
    "--version",
    metavar="VERSION",
    callback=check_version,
    help="The release's name.  [default: the time and the commit]",
)
@click.option("--no-files", is_flag=True, help="The pack alone, without the files one by one.")
@click.option("--immutable", metavar="GLOB", multiple=True, help="Paths whose bytes never change.")
@click.option("--mutable", metavar="GLOB", multiple=True, help="Paths that only look as if; wins.")
@on_site
def publish(
    bucket: Bucket,
    site: Site,
    *,
    root: Path,
    version: str | None,
    no_files: bool,
    immutable: tuple[str, ...],
    mutable: tuple[str, ...],
) -> None:
    """Upload the folder DIR as a release. Nothing that is live changes.

    Prints the version, and nothing else, on stdout: V=$(s3sync publish DIR). Interrupted or failed, it can
    be run again with the same --version and goes on from what is there.
    """
    from s3sync_agent.cli.progress import shown  # noqa: PLC0415
    from s3sync_agent.deploy.publish import publish as publish_folder  # noqa: PLC0415
    from s3sync_agent.deploy.source import default_version, find_source  # noqa: PLC0415
    from s3sync_agent.pointer import format_time  # noqa: PLC0415

    now = time.time()
    source = find_source(root, os.environ)
    version = version or default_version(now, source.commit)
    click.echo(f"publishing {escape(str(root))} as {version}", err=True)
    with shown() as progress:
        published = publish_folder(
            bucket,
            site,
            root,
            version=version,
            source=source,
            created_at=format_time(now),
            immutable=immutable,
            mutable=mutable,
            with_files=not no_files,
            progress=progress,
        )
    for finding in published.findings:
        click.echo(str(finding), err=True)
    for warning in published.warnings:
        show_warning(warning)
    outcome = (
        "was there already, with the same content"
        if published.already_there
        else f"published, {render.size(published.bytes_uploaded)} uploaded"
    )
    click.echo(f"{published.version}: {render.plural(published.files, 'file')}, {outcome}", err=True)
    click.echo(published.version)
