"""The training's process hears what its parent is told, and its parent goes once it is gone."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from launch.robustify import child
from launch.sweep.children import alone
from tests.waiting import wait_until

LISTENS = """
import signal, sys, time
from pathlib import Path
there = Path(sys.argv[1])
def leave(number, frame):
    (there / "heard").write_text(signal.Signals(number).name)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGUSR1, leave)
(there / "up").touch()
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_goes_on_to_the_child_is_waited_for_and_ends_the_job(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(child, "own_program", lambda: (sys.executable, "-c", LISTENS))
    before = signal.getsignal(number)

    def warn() -> None:
        wait_until((tmp_path / "up").exists)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=warn)
    with alone(tmp_path) as lock, pytest.raises(SystemExit) as leave:
        thread.start()
        child.run_child([str(tmp_path)], lock)
    thread.join()
    assert leave.value.code == 0 and (tmp_path / "heard").read_text() == number.name
    assert f"stopped by {number.name}" in capsys.readouterr().out
    assert signal.getsignal(number) is before


def test_the_code_of_a_child_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "own_program", lambda: (sys.executable, "-c", "import sys; sys.exit(3)"))
    with alone(tmp_path) as lock:
        assert child.run_child([], lock) == 3
