"""What is around an agent on its instance: the site as nginx answers it, and hooks, in the test's hands."""

from __future__ import annotations

from collections.abc import Callable

from s3sync_agent.hooks import Subject
from s3sync_agent.instance import Instance
from s3sync_agent.probe import PASSED, Kind, Verdict
from tests.agents import Agent
from tests.releases import PAGES

WRONG = Verdict(Kind.WRONG, "/: answered 404, expected 200")
SILENT = Verdict(Kind.UNANSWERED, "/: connection refused")

BAD = {"about/index.html": b"no index here", **{k: v for k, v in PAGES.items() if k != "index.html"}}
GOOD = PAGES | {"index.html": b"<h1>better</h1>"}


class Site:
    """What visitors get: 404 where the live tree has no index, nothing while nginx is down."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.down = False
        self.broken = False  # nginx itself answers wrongly, whatever is live
        self.asked = 0
        self.on_ask: Callable[[], None] = lambda: None
        agent.instance.probe = self.probe

    def probe(self) -> Verdict:
        self.asked += 1
        self.on_ask()
        if self.down:
            return SILENT
        has_index = (self._agent.settings.state.live / "index.html").is_file()
        return PASSED if has_index and not self.broken else WRONG


class Asked:
    """Hooks in the test's hands."""

    def __init__(self, instance: Instance) -> None:
        self.asked: list[str] = []
        self.told: list[str] = []
        self.raises: Exception | None = None
        instance.hooks = self  # type: ignore[assignment]  # as far as it is used

    def ask(self, subject: Subject, *_: object) -> None:
        self.asked.append(subject.version)
        if self.raises is not None:
            raise self.raises

    def tell(self, subject: Subject, *_: object) -> None:
        self.told.append(subject.version)
