"""Gets one object from S3 with the instance's role and nothing but Python. Part of the user data.

python3.12 - URL REGION METADATA_URL TARGET
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import re
import sys
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

EMPTY = hashlib.sha256(b"").hexdigest()


def signed(url: str, region: str, credentials: dict[str, str], now: dt.datetime) -> dict[str, str]:
    """The headers of a GET, by AWS Signature Version 4. The path in `url` is quoted already."""
    parts = urlsplit(url)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {"host": parts.netloc, "x-amz-content-sha256": EMPTY, "x-amz-date": stamp}
    if credentials.get("Token"):
        headers["x-amz-security-token"] = credentials["Token"]
    names = ";".join(sorted(headers))
    lines = [f"{name}:{headers[name]}" for name in sorted(headers)]
    request = "\n".join(["GET", parts.path, "", *lines, "", names, EMPTY])
    scope = f"{day}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = ("AWS4" + credentials["SecretAccessKey"]).encode()
    for part in (*scope.split("/"), text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    who = f"Credential={credentials['AccessKeyId']}/{scope}"
    return {
        **headers,
        "Authorization": f"AWS4-HMAC-SHA256 {who}, SignedHeaders={names}, Signature={key.hex()}",
    }


def role(metadata: str) -> dict[str, str]:
    """The instance role's credentials, by IMDSv2."""
    ask = urllib.request.Request(  # noqa: S310  # the metadata service
        f"{metadata}/latest/api/token", method="PUT", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    )
    token = {"X-aws-ec2-metadata-token": get(ask).decode()}
    where = f"{metadata}/latest/meta-data/iam/security-credentials/"
    name = get(urllib.request.Request(where, headers=token)).decode().partition("\n")[0]  # noqa: S310
    credentials: dict[str, str] = json.loads(get(urllib.request.Request(where + name, headers=token)))  # noqa: S310
    if (
        "SecretAccessKey" not in credentials
    ):  # so it answers, with 200, while a role is too new or was deleted
        raise OSError(f"the metadata service has no credentials: {credentials.get('Code')}")
    return credentials


class _Stay(urllib.request.HTTPRedirectHandler):
    """Whoever follows a redirect takes the signature and the token along; S3 says what is wrong in it."""

    def redirect_request(self, *_: object) -> None:
        return None


def get(request: urllib.request.Request) -> bytes:
    with urllib.request.build_opener(_Stay).open(request, timeout=30) as answer:
        content: bytes = answer.read()
        return content


def main(url: str, region: str, metadata: str, target: str) -> None:
    for attempt in range(5):  # a role that was made a moment ago is not known everywhere yet
        try:
            now = dt.datetime.now(dt.timezone.utc)  # noqa: UP017  # as old Pythons say it
            headers = signed(url, region, role(metadata), now)
            Path(target).write_bytes(get(urllib.request.Request(url, headers=headers)))  # noqa: S310
        except (OSError, HTTPException) as error:
            if attempt == 4:
                sys.exit(f"error: {url}: {error}{told(error)}")
            time.sleep(2**attempt)
        else:
            return


def told(error: Exception) -> str:
    """What S3 says about its refusal."""
    body = error.read(4096).decode(errors="replace") if isinstance(error, HTTPError) else ""
    code = re.search("<Code>(.*?)</Code>", body)
    return f" ({code[1]})" if code else ""


if __name__ == "__main__":
    main(*sys.argv[1:])
