"""Waiting for the first release: a machine that was set up is of use when nginx serves the site."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable

from s3sync_agent.clock import Clock
from s3sync_agent.errors import SetupFailed
from s3sync_agent.report import Status

PATH = "/healthz"
HEALTH = f"http://127.0.0.1{PATH}"
PAUSE = 0.1


def await_first_release(
    site: str,
    seconds: float,
    *,
    healthy: Callable[[], str],
    status: Callable[[], Status | None],
    clock: Clock,
) -> None:
    """Return when the balancer may send visitors of `site` here.

    `healthy` returns "", or why not. Raises SetupFailed after `seconds`, and at once when the agent serves
    another site than this one, because the machine was configured for it before.
    """
    deadline = clock.monotonic() + seconds
    while True:
        why = healthy()
        told = status()
        if not why and told is not None and told.site == site:
            return
        if not why and told is not None and told.site:
            raise SetupFailed(
                f"the agent serves {told.site}, as /etc/s3sync-agent says",
                hint="take that away first: s3sync-agent setup --remove",
            )
        if clock.monotonic() >= deadline:
            because = told.because if told else "it has said nothing yet"
            raise SetupFailed(
                f"{PATH}: {why or '200'}; the agent: {because}",
                hint="s3sync-agent status",
            )
        clock.sleep(PAUSE)


def ask_nginx(host: str = "") -> str:
    """What nginx answers the balancer's question for a site of this host name; "" when it is 200."""
    request = urllib.request.Request(HEALTH, headers={"Host": host} if host else {})
    try:
        urllib.request.urlopen(request, timeout=5).close()  # noqa: S310  # our own address
    except OSError as error:  # urllib's own errors are some of these
        return str(error)
    return ""
