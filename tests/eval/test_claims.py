"""Claims: one holder at a time, and none for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from eval.claims import Claim, created, take
from tests.waiting import wait_until


def aged(claim: Claim, seconds: float) -> None:
    """As if its holder had been silent."""
    then = time.time() - seconds
    os.utime(claim.file, (then, then))


def held(folder: Path, expires: float = 60.0) -> Claim:
    claim = take(folder, expires)
    assert claim is not None
    return claim


def test_one_of_many_at_once_gets_it(tmp_path: Path) -> None:
    for round_ in range(10):
        got: list[Claim | None] = []
        start = threading.Barrier(8)

        def try_it(folder: Path = tmp_path / str(round_), start: threading.Barrier = start, got: list = got) -> None:
            start.wait()
            got.append(take(folder))

        threads = [threading.Thread(target=try_it) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len([claim for claim in got if claim is not None]) == 1


def test_one_of_many_at_once_succeeds_a_holder_that_fell_silent(tmp_path: Path) -> None:
    first = held(tmp_path)
    aged(first, 61)
    start, got = threading.Barrier(8), []

    def try_it() -> None:
        start.wait()
        got.append(take(tmp_path, 60))

    threads = [threading.Thread(target=try_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([claim for claim in got if claim is not None]) == 1
    assert not first.is_mine()


def test_who_goes_on_touching_it_keeps_it(tmp_path: Path) -> None:
    with held(tmp_path, expires=0.6) as claim:
        for _ in range(2):
            aged(claim, 1e6)
            wait_until(lambda: time.time() - claim.file.stat().st_mtime < 1e5)
        assert take(tmp_path, 1e5) is None
        assert claim.is_mine()


def test_what_is_given_back_is_anybodys_at_once(tmp_path: Path) -> None:
    with held(tmp_path):
        assert take(tmp_path) is None
    with pytest.raises(KeyboardInterrupt), held(tmp_path):
        raise KeyboardInterrupt
    assert held(tmp_path).is_mine()


def test_the_claim_of_a_dead_process_of_this_machine_is_anybodys_at_once(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from eval.claims import take; assert take(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=Path(__file__).parents[2])
    assert held(tmp_path).is_mine()


def test_the_same_process_number_on_another_machine_says_nothing(tmp_path: Path) -> None:
    claim = held(tmp_path)
    claim.file.write_text(json.dumps({"host": "another", "pid": 2**22 + 1}))
    assert take(tmp_path) is None
    aged(claim, 1e6)
    assert held(tmp_path).is_mine()


def test_a_claim_that_cannot_be_read_expires_like_any_other(tmp_path: Path) -> None:
    claim = held(tmp_path)
    claim.file.write_text("")
    assert take(tmp_path) is None
    aged(claim, 1e6)
    assert held(tmp_path).is_mine()


def test_where_files_have_one_name_only_it_works_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert created(tmp_path / "file", "text") and not created(tmp_path / "file", "other")
    assert (tmp_path / "file").read_text() == "text"
