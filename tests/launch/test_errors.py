"""What a machine lacks is said in one line, with the remedy."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.errors import explain
from tests.launch.typed import typed

WORKER = "Caught {0} in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File x\n{0}: {1}\n"
LIKELY = "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of"


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (RuntimeError(f"{LIKELY} shared memory. Please try to raise your shared memory limit."), "shared memory", 2),
        (
            RuntimeError(WORKER.format("RuntimeError", "unable to write to file </torch_7_1>: No space left")),
            "no shared memory is left for data.workers",
            2,
        ),
        (OSError(errno.EMFILE, "Too many open files", "a.tar"), "raise it with ulimit -n, or say data.workers=0", 2),
        (RuntimeError("received 0 items of ancdata"), "too many open files (the limit is ", 2),
        (ValueError(WORKER.format("ShardError", "shard 'a.tar' is cut")), "robustclip: shard 'a.tar' is cut", 2),
        (PermissionError(errno.EACCES, "Permission denied", "/a b"), "robustclip: /a b: Permission denied", 2),
        (OSError(errno.ENOSPC, "No space left on device", "x.ckpt"), "the disk is full: x.ckpt was not written", 2),
        (RuntimeError(WORKER.format("KeyError", "'k'")), "unexpected RuntimeError: 'k'; run with --debug", 1),
    ],
)
def test_an_error_is_one_line(error: Exception, line: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(error) == code
    said = capsys.readouterr().err
    assert line in said and len(said.splitlines()) == 1


def test_a_worker_that_is_gone_is_no_abort(capsys: pytest.CaptureFixture[str]) -> None:
    error = RuntimeError("")
    error.__cause__ = EOFError()
    assert explain(error) == 2
    assert "a process ended in the middle of its work" in capsys.readouterr().err


def test_a_low_limit_of_open_files_is_raised_or_borne() -> None:
    code = (
        "import resource, sys; hard = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_NOFILE, (60, hard)); "
        "from launch.limits import allow_open_files; from data.open_files import OpenFiles; "
        "limit = allow_open_files(); "
        "m = sys.modules.get('torch.multiprocessing'); how = m.get_sharing_strategy() if m else None; "
        "print(limit, how, OpenFiles(int)._limit)"
    )
    for hard, expected in ((4096, "4096 None 256"), (80, "80 file_system 20")):
        ended = subprocess.run([sys.executable, "-c", code, str(hard)], capture_output=True, text=True, check=True)
        assert ended.stdout.strip() == expected


def test_without_assertions_the_command_does_not_start(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-O", "-m", "launch.cli", "--help"], capture_output=True, text=True)
    assert ended.returncode == 2 and "python -O" in ended.stderr and len(ended.stderr.splitlines()) == 1


def test_a_current_folder_that_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = Path.cwd()
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    try:
        (tmp_path / "gone").rmdir()
        assert typed(monkeypatch, "data", "catalog") == 2
    finally:
        os.chdir(here)
    assert capsys.readouterr().err == "robustclip: the current folder does not exist any more; change to another one\n"
