"""Pruning: deleting what an instance does not need, and keeping the assets that outlive their trees."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from s3sync_agent import retention
from s3sync_agent.instance import Instance
from s3sync_agent.stage import sync_assets
from s3sync_agent.webroot import disk_errors


class Pruner:
    """Remembers when the first retained asset goes, so that an idle tick looks at nothing."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._assets_until = math.inf

    def start(self) -> None:
        """Look at what earlier runs retained."""
        self._assets_until = _first_end(self._instance.webroot.retained())

    def make_room(self, protected: Collection[str]) -> None:
        """Prune everything that is not needed, whatever keep_releases says."""
        self.prune(protected, keep=0)

    def prune(self, named: Collection[str], keep: int | None = None) -> None:
        """Delete what is neither needed nor within `keep` (default: keep_releases), slow work last."""
        instance = self._instance
        webroot, settings = instance.webroot, instance.settings
        now = instance.clock.now()
        with instance.swap:
            protected = {id_ for id_ in (*named, webroot.live(), webroot.previous()) if id_}
            self._date_strays(webroot.complete() - protected, now)
            pruned = retention.trees_to_prune(
                webroot.complete(),
                protected=protected,
                retired=instance.memory.retired,
                keep=settings.keep_releases if keep is None else keep,
            )
        if not pruned and now < self._assets_until:
            return
        with disk_errors("retained.json"):
            self._retain(pruned, now)
        with disk_errors("the state directory"):
            with instance.swap:
                moved = [webroot.move_away(release) for release in pruned]
                webroot.forget(pruned)
                retired = {id_: at for id_, at in instance.memory.retired.items() if id_ not in pruned}
                instance.remember(retired=retired)
            for tree in moved:
                webroot.remove_moved(tree)
            sync_assets(instance)
        if pruned:
            instance.reporter.event("prune.done", releases=pruned)

    def _date_strays(self, strays: Collection[str], now: float) -> None:
        """A tree that nobody remembers retiring (a crash, a lost state, an aborted promotion) retires now."""
        undated = {id_: now for id_ in strays if id_ not in self._instance.memory.retired}
        self._instance.remember(retired=self._instance.memory.retired | undated)

    def _retain(self, pruned: Collection[str], now: float) -> None:
        """Note which assets outlive their trees, before the trees go."""
        webroot = self._instance.webroot
        manifests = webroot.manifests()
        leaving = [manifests[release] for release in pruned if release in manifests]
        before = webroot.retained()
        kept = retention.retain(
            before, leaving, now=now, keep_seconds=self._instance.settings.asset_retention
        )
        if kept != before:
            webroot.save_retained(kept)
        self._assets_until = _first_end(kept)


def _first_end(assets: Iterable[retention.RetainedAsset]) -> float:
    """When the first of them goes, in unix seconds."""
    return min((asset.until for asset in assets), default=math.inf)
