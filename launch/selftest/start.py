"""Processes of a training, started as torchrun starts them, each in the hands of the self-test."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from launch.selftest.forked import run_command
from launch.selftest.orphans import MARK, marked, wait_until_gone

_OF_LAUNCHERS = ("SLURM_", "PMI", "RANK", "LOCAL_", "GROUP_", "NODE_RANK", "MASTER_", "WORLD_SIZE", "TORCHELASTIC_")
_READY = ["launch.cli", "launch.job", "launch.selftest.planted", "train.finetune", "train.prior"]
_GONE = 15.0
_MARK = secrets.token_hex(8)  # one for this process: what is forked later inherits what was said first


class Rank(Protocol):
    """A process: of ``subprocess``, or forked."""

    pid: int

    def code(self) -> int | None:
        """How it ended: None while it runs, negative where a signal killed it."""
        ...


@dataclass
class Life:
    """The processes of one start, from their beginning to their end."""

    ranks: list[Rank]
    logs: list[Path]
    begin: float = field(default_factory=time.monotonic)

    def codes(self) -> list[int | None]:
        """How each ended; None where it runs."""
        return [rank.code() for rank in self.ranks]

    def running(self) -> bool:
        """Whether any of them runs."""
        return any(code is None for code in self.codes())

    def send(self, number: signal.Signals, ranks: Sequence[int] | None = None) -> None:
        """A signal to some of them, or to all."""
        for rank in self.ranks if ranks is None else [self.ranks[i] for i in ranks]:
            if rank.code() is None:
                os.kill(rank.pid, number)

    def wait(self, patience: float) -> float | None:
        """The seconds until all have ended; None where one still runs after so many."""
        begin = time.monotonic()
        while self.running():
            if time.monotonic() - begin > patience:
                return None
            time.sleep(0.01)
        return time.monotonic() - begin

    def last_words(self) -> str:
        """What the first process to tell a fault told last, in a line."""
        for log in self.logs:
            lines = [line for line in log.read_text(errors="replace", encoding="utf-8").splitlines() if line.strip()]
            told = [line for line in lines if line.startswith("robustclip: ") or "Error" in line]
            if told:
                return told[-1][:300]
        return "no process told why"


class Starter:
    """Starts trainings and, whatever happens, leaves no process of theirs behind.

    Args:
        forked: fork the processes of one that has imported everything, which spares seconds per start; otherwise each
            starts Python anew, as a user's does.
    """

    def __init__(self, *, forked: bool) -> None:
        self.forked, self.mark = forked, _MARK
        self._lives: list[Life] = []
        self.known: set[int] = set()

    def __enter__(self) -> Starter:
        self._before = {name: os.environ.get(name) for name in (MARK, "OMP_NUM_THREADS")}
        os.environ[MARK] = self.mark
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # the same sums on any number of processes
        if self.forked:
            self._context = multiprocessing.get_context("forkserver")
            self._context.set_forkserver_preload(_READY)
            first = self._context.Process(target=int)
            try:
                first.start()
            except (EOFError, ConnectionError) as error:
                raise RuntimeError("the process that others are forked from ended; leave out --quick") from error
            first.join()
        self.known = set(marked(self.mark))
        return self

    def __exit__(self, *_: object) -> None:
        for life in self._lives:
            life.send(signal.SIGKILL)
        for number in set(marked(self.mark)) - self.known:
            os.kill(number, signal.SIGKILL)
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def start(self, words: Sequence[str], log: Path, *, processes: int, planted: str = "") -> Life:
        """Start the command on so many processes of this machine.

        Args:
            words: of the command, behind ``robustclip``.
            log: what they say, with each one's number before its suffix.
            processes: how many.
            planted: a fault of ``launch.selftest.planted``.
        """
        port = str(free_port())
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes), "GROUP_RANK": "0"}
        shared |= {"LOCAL_WORLD_SIZE": str(processes), "TORCHELASTIC_RUN_ID": "selftest"}
        logs = [log.with_name(f"{log.stem}-rank{rank}{log.suffix}") for rank in range(processes)]
        log.parent.mkdir(parents=True, exist_ok=True)
        ranks: list[Rank] = []
        life = Life(ranks, logs)
        self._lives.append(life)
        for rank, file in enumerate(logs):
            told = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            ranks.append(self._one(words, told, file, planted))
        return life

    def _one(self, words: Sequence[str], told: Mapping[str, str], log: Path, planted: str) -> Rank:
        if self.forked:
            process = self._context.Process(target=run_command, args=(list(words), dict(told), str(log), planted))
            process.start()
            return _Forked(process)
        module = ["launch.selftest.planted", planted] if planted else ["launch.cli"]
        return fresh([sys.executable, "-m", *module, *words], log, told)

    def orphans(self, patience: float = _GONE) -> tuple[dict[int, str], float]:
        """Processes that are left once all should have ended, and how long the last one took to go."""
        return wait_until_gone(self.mark, self.known, patience)

    def adopt(self, life: Life) -> Life:
        """Processes that somebody else started are ended with the others."""
        self._lives.append(life)
        return life


def fresh(command: Sequence[str], log: Path, told: Mapping[str, str] | None = None) -> Rank:
    """A process of its own session; what a launcher told this process is not told to it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as out:
        environment = {**clean(os.environ), **(told or {})}
        return _Fresh(
            subprocess.Popen(
                list(command), env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        )


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables but those by which launchers tell a process its place."""
    return {name: value for name, value in environment.items() if not name.startswith(_OF_LAUNCHERS)}


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class _Forked:
    def __init__(self, process: Any) -> None:
        self.process, self.pid = process, process.pid

    def code(self) -> int | None:
        return self.process.exitcode


class _Fresh:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process, self.pid = process, process.pid

    def code(self) -> int | None:
        return self.process.poll()
