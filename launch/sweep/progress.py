"""How far a sweep is: which run of how many, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from eval.progress import Ticker
from launch.sweep.planning import Planned

_UNITS = 1000  # of one run
_LOOK = 2.0  # seconds between looks at what a run has written


class Progress:
    """Lines for every run, and a bar where somebody is looking.

    Args:
        runs: all of the sweep.
        jobs: at a time.
    """

    def __init__(self, runs: Sequence[Planned], jobs: int) -> None:
        self.order = {run.name: number for number, run in enumerate(runs, start=1)}
        self.jobs, self.left = jobs, sum(not run.finished for run in runs)
        self.seconds: list[float] = []
        self._ticker = Ticker("sweep", _UNITS * len(runs))
        self._shown = 0
        self._done = _UNITS * (len(runs) - self.left)
        self._next = 0.0

    def __enter__(self) -> Self:
        if self.left < len(self.order):
            print(f"{len(self.order) - self.left} of {len(self.order)} runs are done", flush=True)
        self._ticker.__enter__()
        self._show(self._done)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ticker.__exit__(kind, error, trace)

    def began(self, run: Planned) -> None:
        """Say that a run begins."""
        print(f"{self._place(run)} begins", flush=True)

    def ended(self, run: Planned, seconds: float, why: str) -> None:
        """Say that a run has ended, and how long the rest may take."""
        self.left -= 1
        self._done += _UNITS
        if not why:
            self.seconds.append(seconds)
        told = f"not finished: {why}" if why else f"done in {duration(seconds)}"
        rest = time_left(self.seconds, self.left, self.jobs)
        print(f"{self._place(run)} {told}{f'; {self.left} to go{rest}' if self.left else ''}", flush=True)

    def look(self, running: Sequence[Planned]) -> None:
        """Move the bar by what the running trainings have written."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LOOK
        self._show(self._done + sum(int(_UNITS * share_done(run)) for run in running))

    def _show(self, units: int) -> None:
        if units > self._shown:
            self._ticker.advance(units - self._shown)
            self._shown = units

    def _place(self, run: Planned) -> str:
        return f"[{self.order[run.name]}/{len(self.order)}] {run.name}"


def time_left(seconds: Sequence[float], left: int, jobs: int) -> str:
    """Words for the time that the rest takes if it is like what is done; empty before anything is."""
    if not seconds or not left:
        return ""
    rounds = -(-left // jobs)
    return f", about {duration(rounds * sum(seconds) / len(seconds))} left"


def duration(seconds: float) -> str:
    """``41 s``, ``12 min``, ``3.5 h``, ``2.1 days``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def share_done(run: Planned) -> float:
    """How much of a run is done, 0 to 1, as far as its training's table of metrics says."""
    stage = run.stages[0]
    if stage.finished:
        return 0.9 if len(run.stages) > 1 else 1.0
    if not stage.steps:
        return 0.0
    return 0.9 * min(1.0, _last_step(stage.out / "metrics.csv") / stage.steps)


def _last_step(table: Path) -> float:
    try:
        with table.open("rb") as file:
            file.seek(max(0, table.stat().st_size - 4096))
            return float(file.read().decode(errors="replace").splitlines()[-1].partition(",")[0])
    except (OSError, ValueError, IndexError):
        return 0.0
