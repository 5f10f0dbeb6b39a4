"""Progress is shown to people, and to nobody else."""

from __future__ import annotations

import io
import sys

import pytest

from eval.progress import Ticker


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def put_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal for standard error; no fixture, for pytest puts its own there between set-up and test."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return stream


def test_a_terminal_sees_title_and_share(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = put_terminal(monkeypatch)
    with Ticker("judge [bold]x[/bold]", 4) as ticker:
        ticker.advance(3)
    shown = terminal.getvalue()
    assert "judge [bold]x[/bold]" in shown  # a name is never read as markup
    assert "75%" in shown


def test_quiet_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = put_terminal(monkeypatch)
    with Ticker("title", 4, quiet=True) as ticker:
        ticker.advance(3)
    with Ticker.silent() as ticker:
        ticker.advance(3)
    assert terminal.getvalue() == ""


def test_a_file_sees_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with Ticker("title", 4) as ticker:
        ticker.advance(4)
    assert stream.getvalue() == ""


def test_an_error_takes_the_bar_away_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = put_terminal(monkeypatch)
    with pytest.raises(RuntimeError, match="on its way"), Ticker("title", 4):
        raise RuntimeError("on its way")
    assert 0 < terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h")  # the cursor is back
