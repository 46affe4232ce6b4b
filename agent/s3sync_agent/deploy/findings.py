"""What checking a folder found: findings and the report that holds them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault. `file` is relative to the site's folder and `line` counts from 1; both are for
    people: `file` and `message` are escaped and may go to a terminal. `code` never changes."""

    severity: Severity
    file: str
    line: int | None
    code: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.severity}: {self.message} [{self.code}]"


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, by file and line, and the paths that a release would hold, sorted."""

    findings: tuple[Finding, ...]
    files: tuple[str, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "warning")


def in_order(findings: list[Finding]) -> tuple[Finding, ...]:
    """The order of a report: the same folder gives the same report on every machine."""
    return tuple(sorted(findings, key=lambda f: (f.file, f.line or 0, f.severity, f.code, f.message)))
