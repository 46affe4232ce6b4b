"""A publisher in memory: tests say "publish, promote, tick" and not "the third request answers …"."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from s3sync_agent.deploy.releases import StoredManifest
from s3sync_agent.layout import Site
from s3sync_agent.pointer import (
    Pointer,
    ReleaseRef,
    Rollout,
    encode_pointer,
    format_time,
    promoted,
    rolled_back,
)
from tests.fakes import MemoryBucket
from tests.releases import NOON, PAGES, SITE, place_pointer, place_release


class Publisher:
    """Writes releases and pointers as `s3sync` does, at a time of the test's choosing."""

    def __init__(self, bucket: MemoryBucket, *, site: Site = SITE, now: float = NOON) -> None:
        self.bucket = bucket
        self.site = site
        self.now = now
        self.releases: dict[str, StoredManifest] = {}
        self.pointer: Pointer | None = None
        self._promotions = 0

    def publish(self, version: str, files: Mapping[str, bytes] = PAGES) -> str:
        """Returns the release's id on an instance."""
        self.releases[version] = place_release(self.bucket, version, files, site=self.site)
        return self.ref(version).id

    def promote(self, version: str, *, activate_in: float | None = None) -> Pointer:
        ref = self.ref(version, activate_in=activate_in)
        self.now += 1
        self.write(promoted(self.pointer, site=self.site.url, ref=ref, by="ci", reason="", now=self.now))
        assert self.pointer is not None
        return self.pointer

    def roll_back(self, version: str) -> Pointer:
        assert self.pointer is not None
        self.now += 1
        self.write(rolled_back(self.pointer, ref=self.ref(version), by="ops", reason="", now=self.now))
        return self.pointer

    def prepare(self, version: str) -> None:
        """The first phase: stage it, do not activate."""
        self.change(prepare=self.ref(version))

    def limit_to(self, percent: int) -> None:
        self.change(rollout=Rollout(percent))

    def change(self, **fields: object) -> None:
        """Write the pointer again with some other fields and the next sequence."""
        assert self.pointer is not None
        fields = {"sequence": self.pointer.sequence + 1} | fields
        self.write(msgspec.structs.replace(self.pointer, **fields))

    def write(self, pointer: Pointer) -> None:
        self.pointer = pointer
        place_pointer(self.bucket, pointer, site=self.site)

    def ref(self, version: str, *, activate_in: float | None = None) -> ReleaseRef:
        stored = self.releases[version]
        self._promotions += 1
        return ReleaseRef(
            version=version,
            manifest_sha256=stored.sha256,
            manifest_size=stored.size,
            promotion_id=f"promotion-{self._promotions:06}",
            activate_at=None if activate_in is None else format_time(self.now + activate_in),
        )

    def pack_key(self, version: str) -> str:
        pack = self.releases[version].manifest.pack
        assert pack is not None
        return self.site.pack(version, pack.sha256)

    def raw_pointer(self) -> bytes:
        assert self.pointer is not None
        return encode_pointer(self.pointer)
