"""Which steps there are, in which order, and going through them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from s3sync_agent.errors import SetupFailed
from s3sync_agent.layout import MachinePaths, Site
from s3sync_agent.setup import aws_settings, config_file, drain, probe_file, selinux, steps, web_server
from s3sync_agent.setup.aws_settings import AwsSettings
from s3sync_agent.setup.distributions import Distribution
from s3sync_agent.setup.host import Host
from s3sync_agent.setup.steps import Step

Outcome = Literal["ok", "would", "done"]
Tell = Callable[[Outcome, str], None]


def to_set_up(
    distribution: Distribution,
    site: Site | None,
    source: str,
    aws: AwsSettings,
    *,
    paths: MachinePaths,
    hosts: Sequence[str] = (),
) -> list[Step]:
    """What a machine needs. What can fail without having changed anything comes first."""
    return [
        steps.service_manager,
        partial(web_server.installed, distribution),
        steps.command,
        partial(steps.user, distribution),
        *(partial(steps.directory, path, wanted) for path, wanted in steps.directories(paths).items()),
        partial(selinux.allowed, distribution, paths),
        partial(config_file.written, paths, site, source),
        partial(probe_file.written, paths, hosts),
        partial(aws_settings.written, aws, paths),
        partial(steps.unit, paths),
        drain.installed,
        partial(web_server.configured, distribution, paths, hosts),
        web_server.started,
        partial(steps.service, paths),
    ]


def to_remove(distribution: Distribution, *, paths: MachinePaths) -> list[Step]:
    """The way back. The releases here are copies of what S3 holds; a configuration that was edited is not.

    What sites share goes with the last of them.
    """
    return [
        partial(web_server.removed, distribution, paths),
        partial(drain.removed, paths),
        partial(steps.no_service, paths),
        partial(selinux.no_rules, paths),
        partial(steps.no_directory, paths.state_dir),
        partial(steps.no_directory, paths.run_dir),
        partial(aws_settings.removed, paths),
        partial(config_file.no_user_data, paths),
        partial(probe_file.removed, paths),
        partial(config_file.removed, paths),
        partial(steps.no_user, paths),
        partial(steps.no_command, paths),
    ]


def go_through(plan: Sequence[Step], host: Host, tell: Tell, *, dry_run: bool) -> int:
    """Look at each step, do what is to be done, tell about all; returns how many were or would be done.

    Raises SetupFailed at the first step that fails; calling again goes on from there.
    """
    count = 0
    for step in plan:
        finding = step(host)
        if finding.do is None:
            tell("ok", finding.says)
            continue
        count += 1
        if not dry_run:
            try:
                finding.do(host)
            except OSError as error:
                raise SetupFailed(f"could not {finding.says}: {error}") from error
        tell("would" if dry_run else "done", finding.says)
    return count
