"""The runs of a sweep on this machine, in turn or several at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from launch.sweep.children import end, last_line, start
from launch.sweep.planning import Planned, Stage
from launch.sweep.progress import Progress
from launch.sweep.starting import Launch, devices_of, line_of

_POLL = 0.2
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class SignalledError(Exception):
    """A signal said that this process ends."""


@dataclass
class _Slot:
    """A place for one run at a time.

    Attributes:
        number: from 0.
        run: that is at work.
        left: its stages to come.
        child: the process of the current one.
        since: when the run began here.
    """

    number: int
    run: Planned | None = None
    left: list[Stage] = field(default_factory=list)
    child: subprocess.Popen[bytes] | None = None
    since: float = 0.0


class Local:
    """Starts runs and waits for them.

    Args:
        out: folder of the sweep.
        launch: how they are started.
        lock: of ``launch.sweep.children.alone``.
    """

    def __init__(self, out: Path, launch: Launch, lock: int) -> None:
        self.out, self.launch, self.lock = out, launch, lock
        self.failed: dict[str, str] = {}

    def run(self, runs: Sequence[Planned]) -> dict[str, str]:
        """Why runs did not finish, by name; empty where all did.

        Raises:
            SignalledError: a signal said that this process ends; all runs were told as well, and have left.
            KeyboardInterrupt: somebody pressed Ctrl-C.
        """
        waiting = [run for run in runs if not run.finished]
        slots = [_Slot(number) for number in range(min(self.launch.jobs, max(1, len(waiting))))]
        before = {number: signal.signal(number, _tell) for number in _SIGNALS}
        try:
            with Progress(runs, self.launch.jobs) as progress:
                while waiting or any(slot.run for slot in slots):
                    for slot in slots:
                        self._attend(slot, waiting, progress)
                    progress.look([slot.run for slot in slots if slot.run])
                    time.sleep(_POLL)
        finally:
            end([slot.child for slot in slots if slot.child])
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)
        return self.failed

    def _attend(self, slot: _Slot, waiting: list[Planned], progress: Progress) -> None:
        """See to a slot: its process may have ended, its run may be over, another may begin."""
        if slot.child is not None:
            code = slot.child.poll()
            if code is None:
                return
            slot.child = None
            assert slot.run is not None
            stage = slot.left.pop(0)
            if not stage.finished:
                self.failed[slot.run.name] = self._why(slot.run.name, stage, code)
                slot.left = []
            if not slot.left:
                progress.ended(slot.run, time.monotonic() - slot.since, self.failed.get(slot.run.name, ""))
                slot.run = None
        if slot.run is None and waiting:
            slot.run, slot.since = waiting.pop(0), time.monotonic()
            slot.left = [stage for stage in slot.run.stages if not stage.finished]
            progress.began(slot.run)
        if slot.run is not None and slot.child is None:
            self._start(slot, slot.run)

    def _start(self, slot: _Slot, run: Planned) -> None:
        command = line_of(slot.left[0], run.name, self.launch)
        variables = devices_of(slot.number, self.launch.jobs, dict(os.environ), _gpus(self.launch.jobs))
        slot.child = start(command, self.log_of(run.name), variables, self.lock)

    def _why(self, name: str, stage: Stage, code: int) -> str:
        if code == 0:
            return f"{stage.kind} was told to stop; the same command goes on"
        if code < 0:
            return f"{stage.kind} was ended by {signal.Signals(-code).name}; the same command goes on"
        return last_line(self.log_of(name)) or f"{stage.kind} ended with code {code}"

    def log_of(self, name: str) -> Path:
        """What a run prints."""
        return self.out / "logs" / f"{name}.log"


def _tell(number: int, frame: FrameType | None) -> Any:
    raise SignalledError(signal.Signals(number).name)


def _gpus(jobs: int) -> int:
    if jobs == 1:
        return 0
    import torch

    return torch.cuda.device_count()
