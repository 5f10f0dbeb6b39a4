"""Parts of a long job, each done once however often it is started."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.sweep.progress import duration


@dataclass(frozen=True)
class Phase:
    """A part of a job.

    Attributes:
        name: for people.
        key: under which its seconds are noted.
        made: what stands there once it is done, and not before.
        run: does it, or goes on with it.
    """

    name: str
    key: str
    made: Path
    run: Callable[[], object]

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.made.exists()


def run_phases(phases: Sequence[Phase], note: Callable[[dict[str, float]], object]) -> None:
    """Run what is not done yet, in turn.

    Args:
        phases: in order.
        note: told the seconds of each part that ran.
    """
    for number, phase in enumerate(phases, start=1):
        place = f"[{number}/{len(phases)}] {phase.name}"
        if phase.done:
            print(f"{place}: done before", flush=True)
            continue
        print(place, flush=True)
        begin = time.perf_counter()
        phase.run()
        assert phase.done, f"{phase.name} left no {phase.made.name}"
        seconds = time.perf_counter() - begin
        note({phase.key: seconds})
        print(f"      {duration(seconds)}", flush=True)
