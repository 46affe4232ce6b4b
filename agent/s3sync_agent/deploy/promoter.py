"""Whoever moves the pointer: reads it, writes it by compare-and-swap, and watches what the fleet makes of it.

Keeps no state but what it read last. Killed at any point, the pointer says what is going on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from s3sync_agent import trust
from s3sync_agent.bucket import Bucket, NotModified
from s3sync_agent.clock import Clock
from s3sync_agent.deploy.fleet import FleetReader
from s3sync_agent.deploy.releases import POINTER_READ_LIMIT, pointer_etag, read_pointer, store_clock
from s3sync_agent.deploy.write_pointer import who, write_pointer
from s3sync_agent.errors import (
    ConfigError,
    ObjectMissing,
    PointerConflict,
    ReleaseError,
    ReleaseMissing,
    StoreError,
    StoreUnavailable,
)
from s3sync_agent.gate import Gate, Verdict
from s3sync_agent.layout import Site, escape
from s3sync_agent.pointer import Pointer
from s3sync_agent.sightings import Fleet

LOOK_EVERY = 0.5  # seconds between two looks: a listing and a conditional GET each
ASK_GROUP_EVERY = 15.0  # seconds: that API is not made for more
TIMEOUT = 600.0  # seconds

Members = Callable[[], frozenset[str]]  # the instance ids of the Auto Scaling group


class Show(Protocol):
    """What is told to whoever waits; safe to print."""

    def say(self, text: str) -> None:
        """Something was done."""

    def look(self, doing: str, verdict: Verdict) -> None:
        """How every instance stands now."""


def _is_settled(verdict: Verdict) -> bool:
    return verdict.passed or bool(verdict.ended_by)


@dataclass(frozen=True, slots=True)
class Terms:
    """How a promotion is carried out. `timeout` seconds for the fleet to get ready; `take_back` what an
    instance reports as failed."""

    gate: Gate = Gate()  # noqa: RUF009 - frozen
    timeout: float = TIMEOUT
    take_back: bool = True


@dataclass
class Promoter:
    """`by` and `reason` go into the history. `members` asks who is in the Auto Scaling group."""

    bucket: Bucket
    site: Site
    by: str
    clock: Clock
    show: Show
    reason: str = ""
    terms: Terms = Terms()
    members: Members | None = None

    def __post_init__(self) -> None:
        self.started = self.clock.monotonic()
        self.moved_active = False  # whether something else is active by a write of this one
        self._fleet = FleetReader(self.bucket, self.site)
        self._found: Pointer | None = None
        self._etag: str | None = None
        self._gate = self.terms.gate
        self._group_asked = float("-inf")

    # ---------------------------------------------------------------------- the pointer

    @property
    def pointer(self) -> Pointer:
        """As it was read or written last; there is one."""
        if self._found is None:
            raise AssertionError("nobody has read a pointer")
        return self._found

    @property
    def etag(self) -> str:
        return self._etag or ""

    def read(self) -> Pointer | None:
        """None when there is no pointer. Raises PointerInvalid, TooLarge, StoreError."""
        found = read_pointer(self.bucket, self.site)
        self._found, self._etag = (found[0].pointer, found[1]) if found else (None, None)
        return self._found

    def read_over_anything(self) -> None:
        """What is in the pointer's place is no pointer, and is going to be replaced."""
        self._found, self._etag = None, pointer_etag(self.bucket, self.site)

    def write(self, pointer: Pointer, *, deed: str = "", version: str = "") -> None:
        """Over what was read, and make sure that nobody pruned the release `version` just then.

        `prune` looks at the pointer after it took a manifest away, this looks at the manifest after it
        wrote the pointer: whatever the order, at least one of the two notices. Raises as `write_pointer`
        does, and ReleaseMissing.
        """
        before = self._found
        self._etag = write_pointer(self.bucket, self.site, pointer, over=self._etag, deed=deed)
        if before is None or before.active.promotion_id != pointer.active.promotion_id:
            self.moved_active = True
        self._found = pointer
        if not version:
            return
        done = deed or f"{version} was promoted"
        try:
            found = self.bucket.head(self.site.manifest(version))
        except StoreError as error:
            raise StoreError(
                f"{done}, but nobody could be asked whether somebody was pruning it just then: {error}",
                hint=error.hint or "`s3sync status` says what is wanted now",
            ) from error
        if found is None:
            raise ReleaseMissing(
                f"{done}, but somebody was pruning it at the same time",
                hint=f"`s3sync verify {version}` says whether it is whole; if not, "
                f"`s3sync {'abort' if deed else 'rollback'}`",
            )

    def elapsed(self) -> float:
        """Seconds since the command began."""
        return self.clock.monotonic() - self.started

    def now(self) -> float:
        return store_clock(self.bucket)

    @contextmanager
    def telling_what_stands(self, version: str) -> Iterator[None]:
        """Whoever interrupts in this block, a person or S3: what became of `version`, and how it goes on, is
        told."""
        try:
            yield
        except (KeyboardInterrupt, StoreError, ConfigError) as error:
            stands = _what_stands(self._found, version)
            if stands and not isinstance(error, PointerConflict):
                self.show.say(stands)
            raise

    # ------------------------------------------------------------------------ the fleet

    def look(self) -> Fleet:
        return self._fleet.look()

    def gate(self) -> Gate:
        """Who counts now. Raises StoreError when the group could not be asked."""
        if self.members is not None and self.clock.monotonic() - self._group_asked >= ASK_GROUP_EVERY:
            self._gate = replace(self._gate, members=self.members())
            self._group_asked = self.clock.monotonic()
        return self._gate

    def wait(
        self,
        doing: str,
        judge: Callable[[Fleet, Gate], Verdict],
        *,
        allowed: Callable[[Verdict], float],
        until: Callable[[Verdict], bool] = _is_settled,
        still: Callable[[Pointer], bool],
    ) -> Verdict:
        """Look at pointer and fleet until the verdict is what is waited for: it passes, or an instance ended
        it; at most `allowed` seconds. `still` says whether a pointer that somebody wrote meanwhile is about
        the same. Raises PointerConflict, and StoreError when S3 does not answer for so long.
        """
        began = self.clock.monotonic()
        verdict = Verdict(())
        cut_off = False
        while True:
            failure: StoreUnavailable | None = None
            try:
                self._reread(still)
                verdict = judge(self.look(), self.gate())
                cut_off = False
            except StoreUnavailable as error:
                failure = error
                if not cut_off:
                    self.show.say(f"{error}; trying again")
                cut_off = True
            else:
                self.show.look(doing, verdict)
                if until(verdict):
                    return verdict
            if self.clock.monotonic() - began >= allowed(verdict):
                if failure is not None:
                    raise failure
                return verdict
            self.clock.sleep(LOOK_EVERY)

    def _reread(self, still: Callable[[Pointer], bool]) -> None:
        """Raises PointerConflict when somebody else moved the pointer to something else."""
        hint = "look at `s3sync status`, then decide again"
        try:
            found = self.bucket.get_if_changed(self.site.pointer, self.etag, limit=POINTER_READ_LIMIT)
        except ObjectMissing as error:
            raise PointerConflict("the pointer was deleted meanwhile", hint=hint) from error
        if isinstance(found, NotModified):
            return
        try:
            pointer = trust.accept(found.body, site=self.site.url, accepted=None).pointer
        except ReleaseError as error:
            raise PointerConflict(f"somebody put an unreadable pointer there ({error})", hint=hint) from error
        if not still(pointer):
            refuse_to_go_on(pointer)
            raise PointerConflict(f"somebody else moved the pointer: {moved_to(pointer)}", hint=hint)
        self._found, self._etag = pointer, found.etag


def _what_stands(pointer: Pointer | None, version: str) -> str:
    """How far `version` has come, and what to do with it; "" when it has not begun."""
    again, back = f"`s3sync promote {version}`", "`s3sync abort`"
    if pointer is not None and pointer.prepare is not None and pointer.prepare.version == version:
        return (
            f"{version} stays prepared and nothing that is served has changed: {again} goes on, {back} takes "
            "it back"
        )
    if pointer is None or pointer.active.version != version:
        return ""
    if pointer.rollout is not None:
        return (
            f"{version} stays on {pointer.rollout.percent} %: {again} takes it to everyone, with --steps as "
            f"before in steps; {back} takes it back"
        )
    return f"{version} is active and stays: {again} watches on, {back} or `s3sync rollback` takes it back"


def refuse_to_go_on(pointer: Pointer) -> None:
    """Raises PointerConflict when somebody froze the site meanwhile."""
    if pointer.freeze is not None:
        raise PointerConflict(
            f"it does not go on: {moved_to(pointer)}",
            hint="what is under way stays: after `s3sync unfreeze` the same `s3sync promote` goes on, "
            "`s3sync abort` takes it back",
        )


def moved_to(pointer: Pointer) -> str:
    """What a pointer says, in a clause."""
    if pointer.freeze is not None:
        by = escape(pointer.freeze.by) or "somebody"
        return f"promotions are frozen by {by}: {escape(pointer.freeze.reason)}"
    if pointer.prepare is not None:
        return f"{pointer.prepare.version} is prepared, {pointer.active.version} is active"
    return f"it is at {who(pointer)}, nothing is prepared"
