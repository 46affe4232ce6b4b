"""All heartbeats of a site, looked at again and again: one listing a look, and a GET of what changed.

Instances write what they like below their own key, so everything read here is bounded, and one that
cannot be read is named and hides nobody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from s3sync_agent.bucket import Bucket, Listed
from s3sync_agent.deploy.releases import store_clock
from s3sync_agent.errors import FleetError, HeartbeatInvalid, ObjectMissing, StoreDenied, TooLarge
from s3sync_agent.heartbeat import MAX_HEARTBEAT_BYTES, Heartbeat, parse_heartbeat
from s3sync_agent.layout import Site, escape
from s3sync_agent.sightings import Fleet, Sighting, Unreadable

LARGEST_FLEET = 10_000
_WORKERS = 16
_SUFFIX = ".json"

_Read = Heartbeat | str  # a heartbeat, or why there is none


class FleetReader:
    """Remembers what it read; `look` is not for two threads at once."""

    def __init__(self, bucket: Bucket, site: Site) -> None:
        self._bucket = bucket
        self._site = site
        self._known: dict[str, tuple[str, _Read]] = {}  # identity → ETag and what is behind it

    def look(self) -> Fleet:
        """Raises StoreError when S3 could not be asked, FleetError for more than LARGEST_FLEET."""
        listed = dict(self._listed())
        changed = [
            identity
            for identity, item in listed.items()
            if self._known.get(identity, ("", ""))[0] != item.etag
        ]
        with ThreadPoolExecutor(_WORKERS) as pool:
            answers = list(pool.map(lambda one: self._ask(one, listed[one]), changed))
        denied = [answer for answer in answers if isinstance(answer, StoreDenied)]
        if denied and len(denied) == len(listed):  # that is about who asks, not about one of them
            raise denied[0]
        read = {
            identity: (listed[identity].etag, str(answer)) if isinstance(answer, StoreDenied) else answer
            for identity, answer in zip(changed, answers, strict=True)
        }
        self._known = {
            identity: found
            for identity in listed
            if (found := read[identity] if identity in read else self._known[identity]) is not None
        }
        return Fleet(
            tuple(
                Sighting(found, listed[identity].last_modified)
                for identity, (_, found) in sorted(self._known.items())
                if isinstance(found, Heartbeat)
            ),
            tuple(
                Unreadable(identity, found, listed[identity].last_modified)
                for identity, (_, found) in sorted(self._known.items())
                if isinstance(found, str)
            ),
            store_clock(self._bucket),
        )

    def _listed(self) -> Iterator[tuple[str, Listed]]:
        """What lies in the place of a heartbeat, by identity."""
        for count, item in enumerate(self._bucket.list(self._site.fleet)):
            if count >= LARGEST_FLEET:
                raise FleetError(
                    f"there are more than {LARGEST_FLEET} objects below {self._site.url}/fleet/",
                    hint="delete the heartbeats of instances that are gone",
                )
            name = item.key.removeprefix(self._site.fleet)
            if name.endswith(_SUFFIX) and "/" not in name:
                yield name.removesuffix(_SUFFIX), item

    def _ask(self, identity: str, item: Listed) -> tuple[str, _Read] | StoreDenied | None:
        """As `_read`; an instance can write its heartbeat in a way that S3 does not give it to others."""
        try:
            return self._read(identity, item)
        except StoreDenied as error:
            return error

    def _read(self, identity: str, item: Listed) -> tuple[str, _Read] | None:
        """None when it was deleted after it was listed."""
        if item.size > MAX_HEARTBEAT_BYTES:
            return item.etag, f"it is {item.size} bytes, the limit is {MAX_HEARTBEAT_BYTES}"
        try:
            fetched = self._bucket.get(item.key, limit=MAX_HEARTBEAT_BYTES)
            beat = parse_heartbeat(fetched.body, identity=identity)
        except ObjectMissing:
            return None
        except (HeartbeatInvalid, TooLarge) as error:
            return item.etag, str(error)
        if beat.site != self._site.url:
            return item.etag, f"it is of the site {escape(beat.site)[:200]}"
        return fetched.etag, beat
