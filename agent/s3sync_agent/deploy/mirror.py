"""`current/`: a browsable mirror of the live release, brought up to date after the pointer.

Agents never read it while there is a pointer; people, and tools that know nothing of this project, do.
Objects are copied inside S3: first everything that differs, last the deletion of what is no
longer there, never anything below `current/.s3sync/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from s3sync_agent.bucket import Bucket
from s3sync_agent.deploy.parallel import for_each
from s3sync_agent.deploy.releases import browsable, mirrored, read_pointer
from s3sync_agent.deploy.write_pointer import who
from s3sync_agent.errors import ReleaseRefused
from s3sync_agent.layout import Site, escape
from s3sync_agent.pointer import ReleaseRef
from s3sync_agent.release import Manifest

_WORKERS = 16


@dataclass(frozen=True, slots=True)
class Mirrored:
    """The outcome. "done": `current/` shows the release; "left": it was published without
    browsable files, `current/` is as it was; "superseded": `winner` was promoted meanwhile, and
    the mirror is theirs to write."""

    outcome: Literal["done", "left", "superseded"]
    copied: int = 0
    deleted: int = 0
    winner: str = ""


def mirror(bucket: Bucket, site: Site, ref: ReleaseRef, manifest: Manifest) -> Mirrored:
    """Make `current/` show `manifest`, which the pointer made active as `ref`.

    Raises ReleaseRefused when some, but not all, browsable files of the release are gone, and
    StoreError; what was copied until then stays and is not copied again by the next call.
    """
    source = dict(browsable(bucket, site, manifest.version))
    if not source:
        return Mirrored("left")
    wanted = {entry.path for entry in manifest.files}
    missing = wanted - source.keys()
    if missing:
        raise ReleaseRefused(
            f"{manifest.version} cannot be mirrored: it has {len(source)} browsable files of "
            f"{len(wanted)}; missing is {escape(min(missing))!r}",
            hint=f"`s3sync verify {manifest.version}` lists them; agents read the pack and do not mind",
        )
    present = dict(mirrored(bucket, site))
    # Equal ETags and sizes mean equal bytes; other ETags mean nothing, so those are copied.
    differing = sorted(
        path
        for path in wanted
        if path not in present
        or (source[path].size, source[path].etag) != (present[path].size, present[path].etag)
    )
    surplus = sorted(listed.key for path, listed in present.items() if path not in wanted)

    if winner := _superseded(bucket, site, ref):
        return Mirrored("superseded", winner=winner)
    for_each(
        differing,
        lambda path: bucket.copy(source[path].key, site.current + path),
        workers=_WORKERS,
    )
    if winner := _superseded(bucket, site, ref):
        return Mirrored("superseded", copied=len(differing), winner=winner)
    if surplus:
        bucket.delete(surplus)
    winner = _superseded(bucket, site, ref)
    outcome: Literal["done", "superseded"] = "superseded" if winner else "done"
    return Mirrored(outcome, copied=len(differing), deleted=len(surplus), winner=winner)


def _superseded(bucket: Bucket, site: Site, ref: ReleaseRef) -> str:
    """Who was promoted after `ref`, or ""."""
    found = read_pointer(bucket, site)
    if found is None:
        return "nobody (the pointer was deleted)"
    pointer = found[0].pointer
    return "" if pointer.active.promotion_id == ref.promotion_id else who(pointer)
