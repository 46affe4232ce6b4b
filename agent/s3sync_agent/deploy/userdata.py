"""The boot script of an instance, from data/userdata.sh.j2. The infrastructure uses this function too."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from importlib import resources
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from s3sync_agent.deploy.bundle_name import parse
from s3sync_agent.errors import ConfigError
from s3sync_agent.layout import MachinePaths, Site, escape
from s3sync_agent.settings import Given, check
from s3sync_agent.setup.aws_settings import AwsSettings
from s3sync_agent.setup.web_server import DEFAULT_SITE, SITE_CONF

MAX_BYTES = 16 * 1024  # EC2's limit
METADATA = "http://169.254.169.254"
_MACHINE = MachinePaths()
_ROLE_ID = re.compile(r"AROA[A-Z0-9]{12,124}")
_NONE: Mapping[str, str] = {}
# What the script's other options say, and what a machine has in one place only.
_SET_OTHERWISE = {"site", "source", "state_dir", "run_dir"}


def render(
    site: Site,
    *,
    aws: AwsSettings,
    bundle: str,
    sha256: str,
    role_id: str = "",
    settings: Mapping[str, str] = _NONE,
    amazon_linux: bool = False,
    on_end: str = "",
    wait: int = 600,
) -> str:
    """The script for a bundle of this file name, which lies in the site's bucket and has this SHA-256.

    `aws` names the bucket's region. With `role_id`, the id of the instance's role, the agent's identity is
    that and the instance's id: what `${aws:userid}` is in the role's policies. `settings` are the agent's
    others, by name, as texts. With `amazon_linux` the script is half as long, because it is for nothing else
    and fetches with the `aws` command that is part of that system's image. `on_end` is a shell command that
    gets S3SYNC_RESULT (`success` or `failure`) and S3SYNC_REASON. `wait` seconds are given to the first
    release. Raises ConfigError.
    """
    named = parse(bundle, sha256=sha256)
    if not aws.region:
        raise ConfigError("the bucket's region is missing", hint="for example: --region eu-central-1")
    if role_id and not _ROLE_ID.fullmatch(role_id):
        raise ConfigError(
            f"{escape(role_id)!r} is not the id of a role",
            hint="aws iam get-role --role-name NAME --query Role.RoleId",
        )
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
        role_id=role_id,
        settings=_fragment(settings, identified=bool(role_id)),
        fragment=str(_MACHINE.user_data),
        unit=str(_MACHINE.unit),
        service=_MACHINE.service,
        fetch=(data / "deploy" / "fetch_bundle.py").read_text(),
        nginx_conf=str(SITE_CONF),
        nginx_default=str(DEFAULT_SITE),
        on_end=on_end,
        wait=wait,
    )
    if len(script.encode()) > MAX_BYTES:
        raise ConfigError(f"the script has {len(script.encode())} bytes, EC2 takes {MAX_BYTES}")
    return script


def _fragment(settings: Mapping[str, str], *, identified: bool) -> str:
    """The settings in TOML, whose strings JSON's are where nothing needs more than a quote or a backslash;
    "" for none. Raises ConfigError for what no agent would take, or not from here."""
    taken = _SET_OTHERWISE | ({"identity"} if identified else set())
    for name, value in settings.items():
        if name in taken:
            raise ConfigError(f"{name} is no setting for --setting: the boot script sets it otherwise")
        if not value.isprintable():
            raise ConfigError(f"{escape(name)} has characters that cannot be printed: {escape(value)!r}")
    check(Given("--setting", name, value) for name, value in settings.items())
    if not settings and not identified:
        return ""
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in settings.items()]
    return "\n".join(["# Written by the boot script, anew at each run.", *lines])
