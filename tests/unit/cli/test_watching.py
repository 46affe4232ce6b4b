from __future__ import annotations

import io
import sys

import pytest

from s3sync_agent.cli.watching import Lines, shown
from s3sync_agent.gate import Place, Standing, Verdict


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 80 by 24 in the place of stderr."""
    found = Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    return found


def verdict(*places: tuple[str, Standing, str]) -> Verdict:
    return Verdict(tuple(Place(*place) for place in places))


def test_in_ci_there_is_a_line_for_each_change_and_none_for_each_look(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = Lines()
    working = verdict(("i-1", Standing.WORKING, "staging"), ("i-2", Standing.SILENT, "for 181 s"))
    lines.look("staging v2", working)
    lines.look("staging v2", working)
    lines.look(
        "staging v2", verdict(("i-1", Standing.READY, "staged"), ("i-2", Standing.SILENT, "for 182 s"))
    )
    lines.look("activating v2", verdict(("i-1", Standing.READY, "serves it")))
    assert capsys.readouterr().err.splitlines() == [
        "staging v2: i-1 working: staging",
        "staging v2: i-2 silent: for 181 s",
        "staging v2: i-1 ready: staged",
        "activating v2: i-1 ready: serves it",
    ]


def test_on_a_terminal_those_in_trouble_come_first_and_stdout_stays_empty(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = on_terminal(monkeypatch)
    with shown() as show:
        show.say("prepared v2")
        show.look(
            "staging v2", verdict(("i-1", Standing.READY, "staged"), ("i-2", Standing.FAILED, "disk full"))
        )
    seen = terminal.getvalue()
    assert "prepared v2" in seen
    assert "staging v2: 1 of 2 ready, 0 s" in seen
    assert seen.index("i-2") < seen.index("i-1")
    assert capsys.readouterr().out == ""


def test_a_fleet_longer_than_the_terminal_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    with shown() as show:
        show.look("staging v2", verdict(*((f"i-{n:03}", Standing.READY, "staged") for n in range(100))))
    seen = terminal.getvalue()
    assert "i-019" in seen
    assert "i-020" not in seen
    assert "and 80 ready" in seen


def test_what_an_instance_writes_moves_no_cursor_and_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    with shown() as show:
        show.look("staging v2", verdict(("i-[red]1\x1b[2J", Standing.WORKING, "\x1b]0;evil\x07 [bold]")))
    seen = terminal.getvalue()
    assert "\x1b[2J" not in seen
    assert "\x1b]0" not in seen
    assert "i-[red]1\\x1b[2J" in seen
    assert "[bold]" in seen


def test_a_terminal_without_rich_gets_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    monkeypatch.setitem(sys.modules, "rich.live", None)
    with shown() as show:
        show.look("staging v2", verdict(("i-1", Standing.READY, "staged")))
    assert terminal.getvalue() == "staging v2: i-1 ready: staged\n"
