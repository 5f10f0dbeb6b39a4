"""Processes that a sweep starts: they end with it, and never two starts of one sweep at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from data.folder_lock import locked_folder

_LEAVE = 120.0  # seconds that a run has to save and leave before it is killed
_BECOME = (
    "import os, signal, sys; from data.parent import end_with_parent; "
    "end_with_parent(signal.SIGTERM, int(sys.argv[1])); os.execvp(sys.argv[2], sys.argv[2:])"
)
"""Asks the system for SIGTERM once the sweep of this number is gone, if it is not already, and becomes the command."""


@contextmanager
def alone(folder: Path) -> Iterator[int]:
    """A lock on a folder, as a file descriptor that is handed to every child: it is free when the last one is gone.

    Raises:
        ValueError: another start, or a run that it left, is still at work.
    """
    with locked_folder(folder) as lock:
        yield lock.handle


def became(command: Sequence[str]) -> list[str]:
    """A command whose process is told to end once the one that started it is gone, also when that was killed."""
    return [sys.executable, "-P", "-c", _BECOME, str(os.getpid()), *command]


def start(command: Sequence[str], log: Path, variables: dict[str, str], lock: int) -> subprocess.Popen[bytes]:
    """A process of a command, which writes to the end of a log.

    Args:
        command: its words.
        log: file.
        variables: of the environment, beside those here.
        lock: of ``alone``.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return subprocess.Popen(
            became(command),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables},
            pass_fds=(lock,),
        )


def end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask processes to save and leave, and wait until they have; who does not is killed."""
    for child in children:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
    limit = time.monotonic() + _LEAVE
    for child in children:
        try:
            child.wait(max(0.0, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def last_line(log: Path) -> str:
    """What a process said last that is not empty; a line that begins with ours before any other."""
    try:
        lines = [
            line.strip()
            for line in log.read_text(errors="replace", encoding="utf-8").splitlines()[-50:]
            if line.strip()
        ]
    except OSError:
        return ""
    ours = [line.removeprefix("robustclip: ") for line in lines if line.startswith("robustclip: ")]
    return ours[-1] if ours else lines[-1] if lines else ""
