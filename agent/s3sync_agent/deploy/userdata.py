"""The boot script of an instance, from data/userdata.sh.j2. The infrastructure uses this function too."""

from __future__ import annotations

import re
import shlex
from importlib import resources
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from s3sync_agent.deploy.bundle_name import parse
from s3sync_agent.errors import ConfigError
from s3sync_agent.layout import Site
from s3sync_agent.setup.aws_settings import AwsSettings
from s3sync_agent.setup.web_server import DEFAULT_SITE, SITE_CONF

MAX_BYTES = 16 * 1024  # EC2's limit
METADATA = "http://169.254.169.254"


def render(
    site: Site,
    *,
    aws: AwsSettings,
    bundle: str,
    sha256: str,
    amazon_linux: bool = False,
    on_end: str = "",
    wait: int = 600,
) -> str:
    """The script for a bundle of this file name, which lies in the site's bucket and has this SHA-256.

    `aws` names the bucket's region. With `amazon_linux` the script is half as long, because it is for nothing
    else and fetches with the `aws` command that is part of that system's image. `on_end` is a shell command
    that gets S3SYNC_RESULT (`success` or `failure`) and S3SYNC_REASON. `wait` seconds are given to the first
    release. Raises ConfigError.
    """
    named = parse(bundle, sha256=sha256)
    if not aws.region:
        raise ConfigError("the bucket's region is missing", hint="for example: --region eu-central-1")
    domain = "amazonaws.com.cn" if aws.region.startswith("cn-") else "amazonaws.com"
    base = aws.endpoint_url.rstrip("/") or f"https://s3.{aws.region}.{domain}"
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
        region=aws.region,
        endpoint_url=aws.endpoint_url,
        python=f"python{named.python}",
        bundle=bundle,
        sha256=sha256,
        amazon_linux=amazon_linux,
        object=f"s3://{site.bucket}/{site.bundle(bundle)}",
        url=f"{base}/{site.bucket}/{quote(site.bundle(bundle), safe='/~')}",
        metadata=METADATA,
        fetch=(data / "deploy" / "fetch_bundle.py").read_text(),
        nginx_conf=str(SITE_CONF),
        nginx_default=str(DEFAULT_SITE),
        on_end=on_end,
        wait=wait,
    )
    if len(script.encode()) > MAX_BYTES:
        raise ConfigError(f"the script has {len(script.encode())} bytes, EC2 takes {MAX_BYTES}")
    return script
