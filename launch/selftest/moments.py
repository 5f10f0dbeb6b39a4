"""When a run is killed: while it starts, while it trains, and while it saves."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launch.selftest.start import Life

Kind = Literal["start", "train", "save"]
_KINDS: tuple[Kind, ...] = ("save", "train", "start", "save", "save", "train")
_EVENTS: dict[Kind, int] = {"start": 1, "train": 3, "save": 2}
_LOOK = 0.001


@dataclass(frozen=True)
class Moment:
    """A moment of one life of a run.

    Attributes:
        kind: what the run does then.
        events: so many steps, or begun checkpoints, after the life's beginning.
        share: of the seconds of a start, of a step, or of a save, that pass in addition.
        victim: the one process that is killed; None kills all at once.
    """

    kind: Kind
    events: int
    share: float
    victim: int | None


def moments(count: int, *, seed: int, processes: int) -> list[Moment]:
    """Random moments: half of them in saving, a sixth before the first step; a third of all hit one process only.

    Args:
        count: how many.
        seed: of the choice.
        processes: of the run.
    """
    draw = random.Random(seed)
    kinds: list[Kind] = [_KINDS[i % len(_KINDS)] for i in range(count)]
    # before they have met, processes cannot notice that one is gone; that is their launcher's to see
    alone = [processes > 1 and kind != "start" and i % 3 == 1 for i, kind in enumerate(kinds)]
    pairs = list(zip(kinds, alone, strict=True))
    draw.shuffle(pairs)
    return [
        Moment(kind, draw.randint(1, _EVENTS[kind]), draw.random(), draw.randrange(processes) if one else None)
        for kind, one in pairs
    ]


@dataclass(frozen=True)
class Pace:
    """Seconds that the undisturbed run took until its first step, for a step, and for a checkpoint."""

    start: float
    step: float
    save: float


class Watch:
    """Counts the steps and the saves of a run, by the files that it writes.

    Args:
        run: its folder.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.steps = self.saves = 0
        self._table, self._saving = self._stamp(), self.saving()

    def look(self) -> None:
        """Look once."""
        table, saving = self._stamp(), self.saving()
        self.steps += table != self._table
        self.saves += bool(saving and saving != self._saving)
        self._table, self._saving = table, saving

    def saving(self) -> str:
        """The name of the checkpoint that is being written; empty where none is."""
        try:
            names = [path.name for path in (self.run / "checkpoints").iterdir()]
        except OSError:
            return ""
        return next((name for name in names if name.startswith(".") and name.endswith(".tmp")), "")

    def _stamp(self) -> tuple[int, int]:
        try:
            found = (self.run / "metrics.csv").stat()
        except OSError:
            return (0, 0)
        return (found.st_ino, found.st_mtime_ns)


def wait_for(moment: Moment, life: Life, run: Path, pace: Pace) -> bool:
    """Whether the moment came while the processes ran."""
    watch, wait = Watch(run), moment.share * {"start": pace.start, "train": pace.step, "save": pace.save}[moment.kind]
    while moment.kind != "start" and moment.events > (watch.steps if moment.kind == "train" else watch.saves):
        if not life.running():
            return False
        time.sleep(_LOOK)
        watch.look()
    end = time.monotonic() + wait
    while time.monotonic() < end and life.running():
        time.sleep(_LOOK)
    return life.running()
