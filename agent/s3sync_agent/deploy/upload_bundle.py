"""`s3sync bundle --upload`: a bundle to where user data fetches it from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from s3sync_agent.bucket import Bucket
from s3sync_agent.deploy.bundle_name import parse
from s3sync_agent.errors import BundleFailed, PreconditionFailed
from s3sync_agent.layout import Site, escape

MAX_BYTES = 512 * 1024 * 1024


def upload_bundle(bucket: Bucket, site: Site, path: Path) -> bool:
    """Store the bundle below `agent/` of the site; returns False when it was there already.

    Nothing is ever written over: the name bears the digest. Raises ConfigError for a file that is not
    what its name says, BundleFailed when another one lies there under its name, StoreError.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleFailed(f"cannot read {escape(str(path))!r}: {error.strerror}") from error
    sha256 = hashlib.sha256(content).hexdigest()
    parse(path.name, sha256=sha256)
    key = site.bundle(path.name)
    try:
        bucket.put(key, content, size=len(content), sha256=sha256, create_only=True)
    except PreconditionFailed:  # also our own success whose answer was lost
        there = bucket.get(key, limit=MAX_BYTES).body
        if hashlib.sha256(there).hexdigest() != sha256:
            raise BundleFailed(
                f"s3://{site.bucket}/{escape(key)} is not the file that its name says",
                hint="find out who wrote it, then delete it and upload again; instances refuse it meanwhile",
            ) from None
        return False
    return True
