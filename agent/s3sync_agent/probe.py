"""The probe: does the nginx of this machine answer visitors rightly?

A wrong answer says something about the release, no answer says nothing. So the three verdicts, and what they
are given for:

- `passed`: every path was answered with 200, and its body came whole (of a long one the beginning).
- `wrong`: a path was answered with something else. Redirects are among that, since whoever is sent elsewhere
  has not seen the site: a path that redirects has to be replaced by where it leads to. So are 500, by which
  nginx says that it could not read the file, and 503, which our configuration answers when `live` leads to
  nothing that nginx can enter: after a swap both are what a bad release looks like, and what visitors get. An
  nginx with too much to do makes no 503 in our configuration; it leaves connections unanswered.
- `unanswered`: nobody listens, nothing came in time, the connection broke, or what came is no HTTP. Also 408,
  429, 502 and 504, by which somebody in front says that the question did not get through.

Whoever acts on `wrong` asks before the swap too: what was wrong before is not the new release's doing.
"""

from __future__ import annotations

import enum
import http.client
import string
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from s3sync_agent.http_get import Answer, exchange
from s3sync_agent.layout import escape

PATH_SECONDS = 0.4
TOTAL_SECONDS = 0.8  # falling back has to be done a second after the swap
MOST_BYTES = 64 * 1024
_NOT_GOT_THROUGH = {408, 429, 502, 504}


class Kind(enum.Enum):
    PASSED = "passed"
    WRONG = "wrong"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is "" when it passed; otherwise it names the path, what came and what should have."""

    kind: Kind
    reason: str = ""


PASSED = Verdict(Kind.PASSED)


@dataclass(frozen=True, slots=True)
class Probe:
    """Asks `url` (`http://` and a loopback address, no path) for each of `paths`.

    `host` is the name that visitors use, for an nginx with several sites; "" for the address itself. Times
    are seconds.
    """

    url: str
    host: str
    paths: Sequence[str]
    timeout: float = PATH_SECONDS
    total: float = TOTAL_SECONDS

    def run(self) -> Verdict:
        """Never raises, and is back after `total`. One wrong answer decides, whatever else did not come."""
        end = time.monotonic() + self.total
        verdict = PASSED
        for path in self.paths:
            found = self._ask(path, end)
            if found.kind is Kind.WRONG:
                return found
            if verdict is PASSED:
                verdict = found
        return verdict

    def _ask(self, path: str, end: float) -> Verdict:
        asked = escape(path)
        deadline = min(time.monotonic() + self.timeout, end)
        try:
            parts = urlsplit(self.url)
            answer = exchange(
                (parts.hostname or "", parts.port or 80),
                quote(path, safe=string.punctuation),
                deadline=deadline,
                limit=MOST_BYTES,
                headers={"Host": self.host or parts.netloc, "User-Agent": "s3sync-agent (probe)"},
            )
        except TimeoutError:
            return Verdict(Kind.UNANSWERED, f"{asked}: no answer in time")
        except http.client.HTTPException as error:
            what = escape(str(error)) or "nothing"
            return Verdict(Kind.UNANSWERED, f"{asked}: no answer in HTTP ({type(error).__name__}: {what})")
        except OSError as error:
            return Verdict(Kind.UNANSWERED, f"{asked}: {escape(error.strerror or str(error))}")
        except ValueError as error:  # what the settings let through and HTTP does not
            return Verdict(Kind.UNANSWERED, f"{asked}: cannot be asked: {escape(str(error))}")
        return _judge(asked, answer)


def _judge(asked: str, answer: Answer) -> Verdict:
    if answer.status == 200:
        return PASSED
    if answer.status in _NOT_GOT_THROUGH:
        return Verdict(Kind.UNANSWERED, f"{asked}: answered {answer.status}, so nobody looked at the site")
    to = f" to {escape(answer.location[:200])}" if answer.location else ""
    return Verdict(Kind.WRONG, f"{asked}: answered {answer.status}{to}, expected 200")
