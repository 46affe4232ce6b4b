"""How results look: sizes and ages for people, tables, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import click
import msgspec

from s3sync_agent.layout import escape

Row = Sequence[str]


def size(count: int) -> str:
    """Bytes → `812 B`, `1.5 KiB`, `145.0 MiB`."""
    if count < 1024:
        return f"{count} B"
    amount = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1023.95:  # what would be printed as 1024.0
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def age(seconds: float) -> str:
    """Seconds → `12 s`, `3 min`, `5 h`, `12 d`: one unit, rounded down."""
    whole = max(0, int(seconds))
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if whole >= length:
            return f"{whole // length} {unit}"
    return f"{whole} s"


def plural(count: int, one: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


def duration(seconds: float) -> str:
    """Seconds → `4 ms`, `1.2 s`, `3 min 20 s`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def print_json(value: object) -> None:
    """One JSON document on stdout; pure ASCII, so nothing in it can move a cursor."""
    click.echo(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=True))


def print_table(columns: Sequence[str], rows: Sequence[Row], *, right: Sequence[str] = ()) -> None:
    """A table on stdout; the columns named in `right` are aligned to the right.

    On a terminal with rich installed rich draws it; otherwise aligned text, which `awk` can read.
    """
    safe = [[escape(cell) for cell in row] for row in rows]
    if not (sys.stdout.isatty() and _print_rich(columns, safe, right)):
        _print_plain(columns, safe, right)


def _print_rich(columns: Sequence[str], rows: Sequence[Row], right: Sequence[str]) -> bool:
    try:
        from rich.console import Console  # noqa: PLC0415  # only the `deploy` extra has it
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415
    except ImportError:
        return False
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # as text: a name must not be read as markup
    Console().print(table)
    return True


def _print_plain(columns: Sequence[str], rows: Sequence[Row], right: Sequence[str]) -> None:
    lines = [list(columns), *rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())
