"""A figure: what was measured, how often, what came out, and what it may be at most."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Unit = Literal["s", "ms", "µs", "MB", "bytes", "requests", "calls", "files", "% of a core"]
Verdict = Literal["met", "missed", ""]
_COUNTED = {"bytes", "requests", "calls", "files"}  # the same every time, or something is wrong


@dataclass(frozen=True, slots=True)
class Figure:
    """`budget` is the most that the median may be, or every sample of something that is counted; None where
    a figure is only for information. 1 MB is 10^6 bytes."""

    what: str
    unit: Unit
    samples: tuple[float, ...]
    budget: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def verdict(self) -> Verdict:
        if self.budget is None:
            return ""
        measured = max(self.samples) if self.unit in _COUNTED else self.median
        return "met" if measured <= self.budget else "missed"

    def as_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "unit": self.unit,
            "median": self.median,
            "samples": self.samples,
            "budget": self.budget,
            "verdict": self.verdict,
        }


def figure(what: str, unit: Unit, samples: Iterable[float], budget: float | None = None) -> Figure:
    return Figure(what, unit, tuple(samples), budget)


COLUMNS = ("what", "median", "lowest – highest", "runs", "budget", "")


def row(item: Figure) -> tuple[str, ...]:
    """One line of the table, in the order of COLUMNS."""
    spread = f"{_number(min(item.samples))} – {_number(max(item.samples))}" if len(item.samples) > 1 else ""
    budget = "" if item.budget is None else f"≤ {_number(item.budget)}"
    return (
        item.what,
        f"{_number(item.median)} {item.unit}",
        spread,
        str(len(item.samples)),
        budget,
        item.verdict,
    )


def _number(value: float) -> str:
    """Three significant digits, and never fewer than the whole number has."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def as_text(rows: Sequence[tuple[str, ...]]) -> str:
    """A table for the terminal."""
    table = [COLUMNS, *rows]
    widths = [max(len(line[column]) for line in table) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    )


def as_markdown(rows: Sequence[tuple[str, ...]]) -> str:
    table = [COLUMNS, ("---",) * len(COLUMNS), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in table)
