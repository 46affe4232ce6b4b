"""The boot script of an instance, from data/userdata.sh.j2. The infrastructure uses this function too."""

from __future__ import annotations

import re
import shlex
from importlib import resources
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from s3sync_agent.errors import ConfigError
from s3sync_agent.layout import Site, escape

MAX_BYTES = 16 * 1024  # EC2's limit
METADATA = "http://169.254.169.254"
_BUNDLE = re.compile(r"s3sync-agent-[A-Za-z0-9.+!_]+-cp3(\d+)-(?:x86_64|aarch64)-[0-9a-f]{12}\.pyz\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def render(
    site: Site,
    *,
    region: str,
    bundle: str,
    sha256: str,
    endpoint: str = "",
    on_end: str = "",
    wait: int = 600,
) -> str:
    """The script for a bundle of this file name, which lies in the site's bucket and has this SHA-256.

    `endpoint` is another S3 than AWS's. `on_end` is a shell command that gets S3SYNC_RESULT (`success`
    or `failure`) and S3SYNC_REASON. `wait` seconds are given to the first release. Raises ConfigError.
    """
    named = _BUNDLE.match(bundle)
    if named is None:
        raise ConfigError(
            f"{escape(bundle)!r} is not named like a bundle", hint="make one with: s3sync bundle"
        )
    if not _SHA256.match(sha256) or not bundle.endswith(f"-{sha256[:12]}.pyz"):
        raise ConfigError(f"{escape(sha256)!r} is not the SHA-256 of {bundle}")
    if not re.fullmatch(r"[a-z0-9-]+", region):
        raise ConfigError(f"{escape(region)!r} is no region", hint="for example: --region eu-central-1")
    base = endpoint.rstrip("/") or f"https://s3.{region}.amazonaws.com"
    environment = Environment(  # noqa: S701  # no page but a shell script: values go through `sh` below
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        comment_start_string="{%#",  # bash counts with ${#…}
        comment_end_string="#%}",
    )
    environment.filters["sh"] = shlex.quote
    environment.filters["safe_in_double"] = lambda text: re.sub(r'[\\"$`]', "_", text)
    data = resources.files("s3sync_agent")
    script = environment.from_string((data / "data" / "userdata.sh.j2").read_text()).render(
        site=site,
        region=region,
        python=f"3.{named[1]}",
        bundle=bundle,
        sha256=sha256,
        url=f"{base}/{site.bucket}/{quote(site.bundle(bundle), safe='/~')}",
        metadata=METADATA,
        fetch=(data / "deploy" / "fetch_bundle.py").read_text(),
        on_end=on_end,
        wait=wait,
    )
    if len(script.encode()) > MAX_BYTES:
        raise ConfigError(f"the script has {len(script.encode())} bytes, EC2 takes {MAX_BYTES}")
    return script
