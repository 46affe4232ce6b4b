from __future__ import annotations

import io
import sys

import pytest

from s3sync_agent.cli.progress import shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def publish_something() -> None:
    with shown() as progress:
        for done in (0, 512, 2048):
            progress("hash", done, 2048)
        progress("upload", 0, 10)


def test_elsewhere_than_on_a_terminal_each_stage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    publish_something()
    assert capsys.readouterr() == ("", "hashing 2.0 KiB\nuploading 10 B\n")


def test_on_a_terminal_each_stage_has_a_bar_and_stdout_stays_empty(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    publish_something()
    assert "hashing" in terminal.getvalue()
    assert "2.0/2.0 KiB" in terminal.getvalue()
    assert "uploading" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_a_terminal_without_rich_gets_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(sys.modules, "rich", None)
    publish_something()
    assert terminal.getvalue() == "hashing 2.0 KiB\nuploading 10 B\n"
