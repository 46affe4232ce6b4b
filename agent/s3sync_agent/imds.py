"""EC2's metadata service (IMDSv2): which instance this is, in which zone, and whether it is being terminated.

Asks under the address and the switch that the AWS SDK knows: AWS_EC2_METADATA_SERVICE_ENDPOINT and
AWS_EC2_METADATA_DISABLED. Not being on EC2 is an answer; nothing here raises.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from s3sync_agent.http_get import Answer, exchange

REQUEST_SECONDS = 1.0  # of a service that answers within milliseconds, or not at all
_DEFAULT = "http://169.254.169.254"
_MOST_BYTES = 4096
_TOKEN_SECONDS = "60"  # noqa: S105 - a lifetime: a token serves one call here
_WHERE = "/latest/meta-data"


@dataclass(frozen=True, slots=True)
class Metadata:
    """The service as `environ` says. Each request ends within a second: `whereabouts` and `is_terminating`
    within three, and within one where nobody answers."""

    environ: Mapping[str, str]

    def whereabouts(self) -> tuple[str, str] | None:
        """Instance id and availability zone ("" when it is not told). None off EC2."""
        token = self._token()
        instance = self._text("instance-id", token) if token else ""
        return (instance, self._text("placement/availability-zone", token)) if instance else None

    def is_terminating(self) -> bool:
        """Whether the group (scale-in, replacement) or EC2 (a spot instance) is taking this instance away.

        False when it cannot be known: an instance that only restarts must not be taken for one that is gone.
        """
        token = self._token()
        if not token:
            return False
        if self._text("autoscaling/target-lifecycle-state", token) == "Terminated":
            return True
        try:
            action = json.loads(self._text("spot/instance-action", token) or "{}")
        except (ValueError, RecursionError):
            return False
        return isinstance(action, dict) and action.get("action") == "terminate"

    def _token(self) -> str:
        """Nothing without one: then there is nobody to ask."""
        if self.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            return ""
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": _TOKEN_SECONDS, "Content-Length": "0"}
        return self._ask("PUT", "/latest/api/token", headers)

    def _text(self, name: str, token: str) -> str:
        """Nothing for what is not there."""
        return self._ask("GET", f"{_WHERE}/{name}", {"X-aws-ec2-metadata-token": token})

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> str:
        try:
            parts = urlsplit(self.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _DEFAULT)
            answer: Answer = exchange(
                (parts.hostname or "", parts.port or 80),
                parts.path.rstrip("/") + path,
                deadline=time.monotonic() + REQUEST_SECONDS,
                limit=_MOST_BYTES,
                method=method,
                headers={"Host": parts.netloc, **headers},
            )
            text = answer.body.decode("ascii").strip()
        except (OSError, ValueError, http.client.HTTPException):
            return ""
        whole = len(answer.body) < _MOST_BYTES
        return text if answer.status == 200 and whole and text.isprintable() else ""
