"""Following S3: what should be served, as the pointer says or as `current/` shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from s3sync_agent import layout, plain, trust
from s3sync_agent.bucket import Listed, NotModified
from s3sync_agent.errors import ObjectMissing, PointerLost, ReleaseError, SourceChanged
from s3sync_agent.instance import Instance
from s3sync_agent.pointer import MAX_POINTER_BYTES, Document

# A held tree is compared with `releases/` again after this long, doubling up to the limit: its release may
# still be on its way, but every comparison lists all of them.
_RECHECK_FIRST, _RECHECK_LIMIT = 15.0, 300.0


def observe_pointer(instance: Instance) -> Document | None:
    """One conditional GET; returns the accepted pointer, new or not.

    None when there is none and never was one, so that `auto` may look for bare files. Raises
    PointerLost, ReleaseError for one that must be refused, StoreError.
    """
    accepted = instance.accepted()
    key = instance.settings.site.pointer
    etag = instance.memory.etag if accepted else ""
    try:
        found = instance.bucket.get_if_changed(key, etag, limit=MAX_POINTER_BYTES)
    except ObjectMissing:
        if accepted is None and not _needs_pointer(instance):
            return None
        raise _lost(instance, accepted) from None
    if isinstance(found, NotModified):
        return accepted
    document = trust.accept(found.body, site=instance.settings.site.url, accepted=accepted)
    with instance.swap:
        instance.remember(pointer=found.body.decode(), etag=found.etag, plain=None)
    pointer = document.pointer
    if accepted is None or accepted.signed != document.signed:
        instance.reporter.event(
            "poll.changed",
            sequence=pointer.sequence,
            wanted=pointer.active.id,
            promotion_id=pointer.active.promotion_id,
        )
    return document


def _needs_pointer(instance: Instance) -> bool:
    """Whether bare files are no alternative: by setting, or because what is live came by pointer."""
    if instance.settings.source == "pointer":
        return True
    live = instance.webroot.live()
    try:
        return live is not None and instance.webroot.manifest(live).pack is not None
    except ReleaseError:  # its manifest is damaged: then the safe reading is that it came by pointer
        return True


def _lost(instance: Instance, accepted: Document | None) -> PointerLost:
    place = f"s3://{instance.settings.site.bucket}/{instance.settings.site.pointer}"
    if accepted is None and instance.webroot.live() is None:
        return PointerLost(
            f"there is no pointer at {place}",
            hint="nothing was promoted here yet (`s3sync promote VERSION`), or the site is another one",
        )
    return PointerLost(
        f"the pointer at {place} is gone",
        hint="`aws s3 sync --delete` to current/ removes it; put it back with "
        "`s3sync promote VERSION --now`, or set source = plain to serve bare files; the live release stays",
    )


# ------------------------------------------------------------------------------ plain


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tree in `current/` that may be staged, and the version it is called by."""

    tree: plain.Tree
    version: str


@dataclass(frozen=True, slots=True)
class Unsettled:
    """It may still be changing; look again in so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Held:
    """It must not be served."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unchanged:
    """It is what `release` was made from."""

    release: str


@dataclass(frozen=True, slots=True)
class HasPointer:
    """This is no plain site."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nobody has put anything there yet."""


Sight = Candidate | Unsettled | Held | Unchanged | HasPointer | Nothing


class PlainSource:
    """Lists `current/` and judges what it sees. Remembers since when a tree has been as it is."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._fingerprint = ""
        self._first_seen = 0.0
        self._mismatch = ""
        self._recheck_at = 0.0
        self._recheck_after = _RECHECK_FIRST

    def observe(self) -> Sight:
        """One listing, and for a new settled tree one per release it is compared with.

        Raises UnsafePath for keys that may not become files, StoreError.
        """
        instance = self._instance
        tree = self._list()
        if tree.has_pointer and instance.settings.source == "auto":
            return HasPointer()
        if not tree.objects and instance.webroot.live() is None:
            return Nothing()
        made_from = instance.memory.plain
        if made_from is not None and made_from.fingerprint == tree.fingerprint:
            self._fingerprint = ""  # what was settling is undone
            return Unchanged(made_from.release)
        if made_from is not None and made_from.marker == tree.marker:
            # Written for the tree that is live. Since then files may have been deleted one by one, which
            # leaves no time behind.
            tree = replace(tree, marker=None)
        self._note(tree)
        wait = plain.unsettled_for(
            tree,
            now=instance.bucket.server_time() or instance.clock.now(),
            seen_for=instance.clock.monotonic() - self._first_seen,
            settle=instance.settings.plain_settle,
        )
        if wait > 0:
            return Unsettled(wait)
        return self._judge(tree)

    def confirm(self, tree: plain.Tree) -> None:
        """List once more. Raises SourceChanged when it is another tree by now."""
        if self._list().fingerprint != tree.fingerprint:
            raise SourceChanged(
                "current/ changed while it was read", hint="it is taken as soon as it has settled"
            )

    def _list(self) -> plain.Tree:
        site = self._instance.settings.site
        return plain.read_listing(site, self._instance.bucket.list(site.current))

    def _note(self, tree: plain.Tree) -> None:
        if tree.fingerprint == self._fingerprint:
            return
        self._fingerprint = tree.fingerprint
        self._first_seen = self._instance.clock.monotonic()
        self._mismatch = ""
        self._recheck_after = _RECHECK_FIRST
        self._instance.reporter.event(
            "plain.changed",
            fingerprint=tree.fingerprint[:12],
            files=len(tree.objects),
            settles_in=self._instance.settings.plain_settle,
        )

    def _judge(self, tree: plain.Tree) -> Sight:
        meant = tree.marker is not None and tree.marker >= tree.newest
        reason = plain.hold_reason(tree, live_files=None if meant else self._live_files())
        if reason:
            return Held(reason)
        if meant:
            return Candidate(tree, _version_of(tree))
        return self._match(tree)

    def _live_files(self) -> int | None:
        live = self._instance.webroot.live()
        try:
            return None if live is None else len(self._instance.webroot.manifest(live).files)
        except ReleaseError:
            return None

    def _match(self, tree: plain.Tree) -> Sight:
        """Pipelines write `releases/<version>/` first: an interrupted copy equals none of them."""
        now = self._instance.clock.monotonic()
        if self._mismatch and now < self._recheck_at:
            return Held(self._mismatch)
        bucket, site = self._instance.bucket, self._instance.settings.site
        prefixes = bucket.list_prefixes(site.releases)
        nearest = ""
        for prefix in reversed(prefixes):
            self._instance.beat()
            difference = self._difference(tree, prefix)
            if not difference:
                name = prefix[len(site.releases) :].rstrip("/")
                return Candidate(tree, name if layout.VERSION_PATTERN.match(name) else _version_of(tree))
            nearest = nearest or f"{difference} (compared with {layout.escape(prefix)})"
        if not prefixes:
            return Candidate(tree, _version_of(tree))
        self._mismatch = f"current/ equals no release: {nearest}"
        self._recheck_at = now + self._recheck_after
        self._recheck_after = min(_RECHECK_LIMIT, self._recheck_after * 2)
        return Held(self._mismatch)

    def _difference(self, tree: plain.Tree, prefix: str) -> str:
        difference = self._compare(tree, prefix, etags_comparable=True)
        if difference.endswith("has other content") and self._encrypted_by_kms(tree):
            return self._compare(tree, prefix, etags_comparable=False)
        return difference

    def _compare(self, tree: plain.Tree, prefix: str, *, etags_comparable: bool) -> str:
        listing: Iterator[Listed] = self._instance.bucket.list(prefix)
        return plain.first_difference(tree.objects, listing, prefix, etags_comparable=etags_comparable)

    def _encrypted_by_kms(self, tree: plain.Tree) -> bool:
        key = self._instance.settings.site.current + tree.objects[0].path
        found = self._instance.bucket.head(key)
        return found is not None and found.encrypted_by_kms


def _version_of(tree: plain.Tree) -> str:
    return datetime.fromtimestamp(tree.newest, UTC).strftime("plain-%Y%m%dT%H%M%SZ")
