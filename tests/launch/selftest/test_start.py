"""Processes in the hands of a self-test."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from launch.selftest.orphans import MARK, can_look, marked
from launch.selftest.stage import ended
from launch.selftest.start import Life, Starter, clean, fresh
from tests.waiting import CEILING

SAYS = "import os, sys; print('robustclip: no such thing', os.environ.get('RANK')); sys.exit(3)"


def test_what_a_launcher_told_this_process_is_not_told_to_another() -> None:
    said = {
        "RANK": "3",
        "SLURM_PROCID": "1",
        "MASTER_PORT": "1",
        "LOCAL_RANK": "0",
        "PATH": "p",
        "OMP_NUM_THREADS": "1",
    }
    assert clean(said) == {"PATH": "p", "OMP_NUM_THREADS": "1"}


def test_how_processes_ended_and_their_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "7")
    logs = [tmp_path / f"{rank}.txt" for rank in range(2)]
    life = Life([fresh([sys.executable, "-c", SAYS], logs[0]), fresh(["sleep", "600"], logs[1])], logs)
    assert life.wait(0.05) is None and life.running() and ended(life, 0.0) == ["still running after 0 s"]
    life.send(signal.SIGKILL, [1])
    assert life.wait(CEILING) is not None and life.codes() == [3, -9]
    assert ended(life) == ["ended with [3, -9]: robustclip: no such thing None"]


@pytest.mark.skipif(not can_look(), reason="this system has no /proc")
def test_nothing_stays_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MARK, raising=False)
    lives, starter = [], Starter(forked=False)
    with pytest.raises(KeyboardInterrupt), starter:
        lives.append(starter.adopt(Life([fresh(["sleep", "600"], tmp_path / "a.txt")], [tmp_path / "a.txt"])))
        lives.append(Life([fresh(["sleep", "600"], tmp_path / "b.txt")], []))  # which nobody told the starter of
        assert len(marked(starter.mark)) == 2 and starter.orphans(0.0)[0]
        raise KeyboardInterrupt
    assert all(life.wait(CEILING) is not None for life in lives) and starter.orphans(CEILING)[0] == {}
    assert MARK not in os.environ
