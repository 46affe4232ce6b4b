"""What has to have happened before a release on the disk may go live here: hashed where there is time for it,
and the pre-activate hooks asked."""

from __future__ import annotations

from collections.abc import Collection

from s3sync_agent.errors import HookVetoed
from s3sync_agent.heal import check_release
from s3sync_agent.instance import Instance
from s3sync_agent.prover import Serving, subject


class Readiness:
    """By promotion; forgotten at a restart, so what lies ahead is then looked at again."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._ready: set[str] = set()
        self._hashed: set[str] = set()

    @property
    def promotions(self) -> frozenset[str]:
        """Those whose release may be activated here."""
        return frozenset(self._ready)

    def is_staged(self, promotion: str) -> bool:
        """Whether its release was hashed as a whole, and its hooks asked."""
        return promotion in self._ready and promotion in self._hashed

    def make_ready(self, serving: Serving, *, hashing: bool) -> None:
        """Hash the release (`hashing`), heal what is not as it should be, then ask the hooks.

        A veto is remembered as a denial. Raises StoreError, StagingError and ReleaseError when it could not
        be healed, HookUnusable.
        """
        if hashing:
            check_release(self._instance, serving.release)
            self._hashed.add(serving.promotion)
        if self._instance.hooks is not None:
            try:
                what = subject(self._instance, serving)
                self._instance.hooks.ask(what, self._instance.reporter, self._instance.beat)
            except HookVetoed as veto:
                self._instance.deny(serving.promotion, serving.release, str(veto))
                return
        self._ready.add(serving.promotion)

    def keep(self, promotions: Collection[str]) -> None:
        """Forget all others."""
        self._ready &= set(promotions)
        self._hashed &= set(promotions)
