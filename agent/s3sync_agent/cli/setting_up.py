"""`s3sync-agent setup`."""

from __future__ import annotations

import os

import click

from s3sync_agent.clock import SystemClock
from s3sync_agent.errors import ConfigError
from s3sync_agent.layout import MachinePaths, RunPaths, Site, escape, parse_site
from s3sync_agent.nginx import check_host
from s3sync_agent.report import read_status
from s3sync_agent.setup.aws_settings import AwsSettings
from s3sync_agent.setup.distributions import detect
from s3sync_agent.setup.host import Host, LocalHost
from s3sync_agent.setup.plan import Outcome, go_through, to_remove, to_set_up


@click.command()
@click.option(
    "--site",
    metavar="s3://BUCKET[/PREFIX]",
    envvar="S3SYNC_SITE",
    show_envvar=True,
    help="The site to serve; needed as long as there is no configuration file.",
)
@click.option(
    "--source",
    type=click.Choice(["pointer", "auto", "plain"]),
    default="pointer",
    show_default=True,
    help="What says which release is live.",
)
@click.option("--name", metavar="NAME", default="", help="For a second site on this machine, and a third.")
@click.option("--host", "hosts", metavar="HOST", multiple=True, help="What a site with a name answers to.")
@click.option("--region", default="", help="The bucket's region, for a service that cannot find it out.")
@click.option("--endpoint-url", default="", help="Another S3 than AWS's.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Return when a release is served; fail when none is after so long.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--remove", is_flag=True, help="Take the site away again; with the last, all that setup made.")
def setup(
    *,
    site: str | None,
    source: str,
    name: str,
    hosts: tuple[str, ...],
    region: str,
    endpoint_url: str,
    wait: float | None,
    dry_run: bool,
    remove: bool,
) -> None:
    """Make this machine serve the site: user, directories, configuration, service, nginx. As root.

    Does only what is missing, so it can be called again at any time: after an upgrade, after a failure.
    Existing configuration files are kept.
    """
    if os.geteuid() != 0 and not dry_run:
        raise ConfigError("setup needs root", hint="sudo s3sync-agent setup …, or look with --dry-run")
    if wait is not None and site is None:
        raise ConfigError("--wait needs to know for what", hint="--site s3://bucket/site")
    if hosts and not name:
        raise ConfigError("a site without a name answers to every host", hint="give it one: --name blog")
    for each in hosts:
        check_host(each)
    paths = MachinePaths(name)
    host: Host = LocalHost()
    distribution = detect(host)
    parsed = None if site is None else parse_site(site)
    aws = AwsSettings(region, endpoint_url)
    if remove:
        plan = to_remove(distribution, paths=paths)
    else:
        plan = to_set_up(distribution, parsed, source, aws, paths=paths, hosts=hosts)
    if not go_through(plan, host, _tell, dry_run=dry_run):
        click.echo("nothing to do")
    if parsed is not None and wait is not None and not (dry_run or remove):
        _wait(parsed, wait, paths, hosts)


def _wait(site: Site, seconds: float, paths: MachinePaths, hosts: tuple[str, ...]) -> None:
    from s3sync_agent.setup.first_release import ask_nginx, await_first_release  # noqa: PLC0415

    run_paths = RunPaths(paths.run_dir)
    await_first_release(
        site.url,
        seconds,
        healthy=lambda: ask_nginx(hosts[0] if hosts else ""),
        status=lambda: read_status(run_paths),
        clock=SystemClock(),
    )
    click.echo(f"   ok  {escape(site.url)} is served")


def _tell(outcome: Outcome, text: str) -> None:
    click.echo(f"{outcome:>5}  {escape(text)}")
