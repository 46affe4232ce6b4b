"""The metrics as a file that node_exporter reads."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import generate_latest

from s3sync_agent.errors import MetricsNotTaken
from s3sync_agent.metrics.prometheus import registry
from s3sync_agent.metrics.table import Read
from s3sync_agent.report import replace


class TextFile:
    """Every export replaces the file at once: its reader sees the old one or the new one. It is gone when
    this ends, because the numbers of an agent that is gone are no numbers."""

    def __init__(self, path: Path, read: Read) -> None:
        self._path = path
        self._registry = registry(read)

    def export(self) -> None:
        """Raises MetricsNotTaken when it cannot be written."""
        text = generate_latest(self._registry)
        try:
            replace(self._path, text)
        except OSError as error:
            raise MetricsNotTaken(
                f"write {self._path}: {error.strerror}",
                hint="the agent's unit may only write its run_dir and its state_dir",
            ) from error

    def close(self) -> None:
        """Raises OSError."""
        self._path.unlink(missing_ok=True)
