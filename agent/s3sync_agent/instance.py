"""What one tick works with: the ports, and what the instance remembers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from s3sync_agent.bucket import Bucket
from s3sync_agent.clock import Clock
from s3sync_agent.errors import StagingError
from s3sync_agent.hooks import Hooks
from s3sync_agent.machine import State, Step, advance
from s3sync_agent.pointer import Document
from s3sync_agent.probe import Probe, Verdict
from s3sync_agent.report import Counted
from s3sync_agent.settings import Settings
from s3sync_agent.webroot import Webroot, disk_errors
from s3sync_agent.webroot import state as memory
from s3sync_agent.webroot.state import Denial
from s3sync_agent.webroot.state import State as Memory


class Stopped(Exception):
    """The agent was asked to stop; raised by `beat` inside long work."""


@dataclass(slots=True)
class Instance:
    """`swap` guards everything that reads or moves the links and the memory; nobody holds it while
    talking to S3. `beat` is called between pieces of long work and raises when the agent stops. `probe`
    asks nginx how it answers; None where nobody said where to ask."""

    settings: Settings
    bucket: Bucket
    webroot: Webroot
    clock: Clock
    reporter: Counted
    beat: Callable[[], None]
    memory: memory.State = field(default_factory=memory.State)
    state: State = State.WAITING
    swap: threading.RLock = field(default_factory=threading.RLock)
    probe: Callable[[], Verdict] | None = None
    hooks: Hooks | None = None
    _saved: bool = True
    _parsed: tuple[str | None, Document | None] = (None, None)

    def __post_init__(self) -> None:
        settings = self.settings
        if settings.probe_url is not None:
            self.probe = Probe(settings.probe_url, settings.probe_host or "", settings.probe_paths).run
        self.hooks = Hooks(settings.hooks_dir, settings.hook_timeout, settings.site.url)

    def step(self, step: Step) -> None:
        self.state = advance(self.state, step)

    def is_plain_site(self) -> bool:
        """Whether bare files are followed, and no pointer."""
        source = self.settings.source
        return source == "plain" or (source == "auto" and self.memory.plain is not None)

    def accepted(self) -> Document | None:
        """The pointer in force; one accepted for another site, before the setting changed, is none."""
        memory, parsed = self.memory, self._parsed  # once: several threads ask, and none may get another's
        if memory.pointer != parsed[0]:
            self._parsed = parsed = (memory.pointer, memory.document())
        document = parsed[1]
        return document if document and document.pointer.site == self.settings.site.url else None

    def deny(self, promotion: str, release: str, reason: str) -> None:
        """Never take this promotion here, whether the disk can keep it or not."""
        denial = Denial(promotion, reason[: memory.MAX_REASON])
        with self.swap:
            others = (known for known in self.memory.denied if known.promotion_id != promotion)
            self.note(denied=(denial, *others)[: memory.REMEMBERED])
        self.reporter.event("promotion.denied", promotion_id=promotion, release=release, reason=reason)

    def denied(self) -> frozenset[str]:
        """The promotions that this instance does not take."""
        return frozenset(denial.promotion_id for denial in self.memory.denied)

    def denial(self) -> Denial | None:
        """Why the active promotion is not taken here; None when it is."""
        document = self.accepted()
        active = document.pointer.active.promotion_id if document else ""
        return next((known for known in self.memory.denied if known.promotion_id == active), None)

    def remember(self, **changes: Any) -> None:
        """Change what is remembered, durably; nothing is written when nothing changes.

        Raises DiskFull, StagingError; then nothing is remembered.
        """
        changed = msgspec.structs.replace(self.memory, **changes)
        if changed != self.memory:
            self._save(changed)
            self.memory = changed

    def note(self, **changes: Any) -> None:
        """Remember what has happened, or must not happen again: it holds from now on though the disk refuses
        it. Then `save_noted` writes it, or tells."""
        self.memory = msgspec.structs.replace(self.memory, **changes)
        self._saved = False
        with contextlib.suppress(StagingError):
            self._save(self.memory)

    def save_noted(self) -> None:
        """Write what the disk refused when it was noted. Raises DiskFull, StagingError."""
        with self.swap:
            if not self._saved:
                self._save(self.memory)

    def _save(self, state: Memory) -> None:
        with disk_errors("state.json"):
            self.webroot.save_state(state)
        self._saved = True
