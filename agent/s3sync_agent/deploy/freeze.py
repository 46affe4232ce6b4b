"""Freezing a site: promotions are refused until somebody lifts it."""

from __future__ import annotations

from s3sync_agent.deploy.guards import check_notes
from s3sync_agent.deploy.promoter import Promoter
from s3sync_agent.errors import ConfigError, ReleaseRefused
from s3sync_agent.layout import escape
from s3sync_agent.pointer import Pointer, frozen, unfrozen


def freeze(promoter: Promoter) -> Pointer:
    """With the promoter's reason. Raises ReleaseRefused when there is no pointer or somebody froze it before,
    PointerConflict, StoreError."""
    check_notes(promoter.by, promoter.reason)
    if not promoter.reason.strip():
        raise ConfigError("a freeze needs a reason", hint="whoever meets it at night wants to know why")
    before = _pointer(promoter)
    if before.freeze is not None:
        raise ReleaseRefused(
            f"frozen already by {escape(before.freeze.by) or 'somebody'} since {escape(before.freeze.at)}: "
            f"{escape(before.freeze.reason)}",
            hint="`s3sync unfreeze` lifts it",
        )
    after = frozen(before, reason=promoter.reason, by=promoter.by, now=promoter.now())
    promoter.write(after, deed="the site was frozen")
    return after


def unfreeze(promoter: Promoter) -> Pointer | None:
    """The pointer before; None when nothing is frozen. Raises as `freeze`."""
    before = _pointer(promoter)
    if before.freeze is None:
        return None
    promoter.write(unfrozen(before, now=promoter.now()), deed="the freeze was lifted")
    return before


def _pointer(promoter: Promoter) -> Pointer:
    found = promoter.read()
    if found is None:
        raise ReleaseRefused(f"there is no pointer in {promoter.site.url}: nothing was promoted yet")
    return found
