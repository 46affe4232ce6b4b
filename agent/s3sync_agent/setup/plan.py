"""Which steps there are, in which order, and going through them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from s3sync_agent.errors import SetupFailed
from s3sync_agent.layout import DEFAULT_RUN_DIR, DEFAULT_STATE_DIR, Site
from s3sync_agent.setup import aws_settings, drain, steps, web_server
from s3sync_agent.setup.aws_settings import AwsSettings
from s3sync_agent.setup.distributions import Distribution
from s3sync_agent.setup.host import Host
from s3sync_agent.setup.steps import Step

Outcome = Literal["ok", "would", "done"]
Tell = Callable[[Outcome, str], None]


def to_set_up(distribution: Distribution, site: Site | None, source: str, aws: AwsSettings) -> list[Step]:
    """What a machine needs. What can fail without having changed anything comes first."""
    return [
        steps.service_manager,
        partial(web_server.installed, distribution),
        partial(steps.user, distribution),
        *(partial(steps.directory, path, wanted) for path, wanted in steps.DIRECTORIES.items()),
        partial(steps.selinux, distribution),
        partial(steps.config, site, source),
        partial(aws_settings.written, aws),
        steps.unit,
        drain.installed,
        partial(web_server.configured, distribution),
        web_server.started,
        steps.service,
    ]


def to_remove(distribution: Distribution) -> list[Step]:
    """The way back. The releases here are copies of what S3 holds; a configuration that was edited is not."""
    return [
        partial(web_server.removed, distribution),
        drain.removed,
        steps.no_service,
        steps.no_selinux,
        partial(steps.no_directory, DEFAULT_STATE_DIR),
        partial(steps.no_directory, DEFAULT_RUN_DIR),
        aws_settings.removed,
        steps.no_config,
        steps.no_user,
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
