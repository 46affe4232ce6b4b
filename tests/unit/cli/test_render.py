from __future__ import annotations

import io
import sys

import pytest

from s3sync_agent.cli import render


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (152_043_520, "145.0 MiB"),
        (5 * 1024**4, "5.0 TiB"),
    ],
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert render.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (0, "0 s"), (59.9, "59 s"), (60, "1 min"), (7199, "1 h"), (86400 * 12 + 5, "12 d")],
)
def test_ages_have_one_unit_and_are_never_negative(seconds: float, text: str) -> None:
    assert render.age(seconds) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


ROWS = [("v1", "1 B"), ("[red]v2", "12 B")]


def test_elsewhere_than_on_a_terminal_a_table_is_aligned_text(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_table(("VERSION", "SIZE"), ROWS, right=("SIZE",))
    assert capsys.readouterr().out == "VERSION  SIZE\nv1        1 B\n[red]v2  12 B\n"


def test_on_a_terminal_names_are_never_read_as_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    render.print_table(("VERSION", "SIZE"), ROWS)
    assert "[red]v2" in terminal.getvalue()


def test_a_terminal_without_rich_gets_the_aligned_text(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    for module in [name for name in sys.modules if name.partition(".")[0] == "rich"] or ["rich"]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    render.print_table(("VERSION", "SIZE"), ROWS, right=("SIZE",))
    assert terminal.getvalue() == "VERSION  SIZE\nv1        1 B\n[red]v2  12 B\n"
