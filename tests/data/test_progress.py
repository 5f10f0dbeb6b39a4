from __future__ import annotations

import gc
import io
import threading

import pytest
import rich.console

from data import progress, terminal


class _Console(rich.console.Console):
    file_seen = io.StringIO()

    def __init__(self, **_: object) -> None:
        super().__init__(file=self.file_seen, force_terminal=True, width=80)


def test_without_a_terminal_nothing_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(progress.track(range(5), "count", 5)) == [0, 1, 2, 3, 4]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("patience", "shown"), [(-1.0, True), (60.0, False)])
def test_a_bar_appears_on_a_terminal_once_the_loop_is_slow(
    patience: float, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Console, "file_seen", io.StringIO())
    monkeypatch.setattr(terminal, "terminal", _Console)
    monkeypatch.setattr(progress, "_PATIENCE", patience)
    assert list(progress.track(iter("abc"), "spell", 3)) == ["a", "b", "c"]
    assert ("spell" in _Console.file_seen.getvalue()) == shown


def test_a_loop_that_is_left_early_ends_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Console, "file_seen", io.StringIO())
    monkeypatch.setattr(terminal, "terminal", _Console)
    monkeypatch.setattr(progress, "_PATIENCE", -1.0)
    bars: set[threading.Thread] = set()
    before = set(threading.enumerate())
    for item in progress.track(range(10), "spell", 10):
        if item == 3:
            bars = set(threading.enumerate()) - before
            assert bars  # the bar refreshes in a thread of its own
            break
    gc.collect()
    assert not bars & set(threading.enumerate())
