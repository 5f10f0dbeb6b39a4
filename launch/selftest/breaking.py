"""A number that is none, in a batch of one process."""

from __future__ import annotations

import json
from pathlib import Path

from launch.selftest.check import Check, judged, stopwatch
from launch.selftest.compare import exported
from launch.selftest.planted import BROKEN_STEP, WEIGHTS
from launch.selftest.stage import Stage, ended


def broken_batch(stage: Stage) -> list[Check]:
    """The step is left out by both processes, whose weights stay equal."""
    run = stage.out / "broken"
    with stopwatch() as taken:
        faults = ended(stage.start("broken", 2, planted="broken-batch"))
    faults = faults or [*weight_faults(run), *_note_faults(run)]
    told = f"step {BROKEN_STEP + 1} left out by both and noted with its samples; weights equal before every step"
    return [judged("a loss of one process is not a number", faults, told, taken[0])]


def weight_faults(run: Path) -> list[str]:
    """Where the weights of two processes differed, or moved although the step was to be left out, or did not move."""
    one, other = (
        [line.split(",") for line in (run / WEIGHTS.format(rank)).read_text(encoding="utf-8").split()]
        for rank in range(2)
    )
    faults = [f"before step {int(a[0]) + 1} the weights differ" for a, b in zip(one, other, strict=False) if a != b]
    if len(one) != len(other):
        faults.append(f"one process took {len(one)} steps and the other {len(other)}")
    moved = [a[1] != b[1] for a, b in zip(one, one[1:], strict=False)]
    wrong = [number for number, it_did in enumerate(moved) if it_did != (number != BROKEN_STEP)]
    return faults + [f"step {n + 1} {'moved' if moved[n] else 'did not move'} the weights" for n in wrong]


def _note_faults(run: Path) -> list[str]:
    note = run / "skipped" / f"step={BROKEN_STEP + 1:06d}.json"
    if not note.is_file():
        return ["the step was not noted"]
    shares = [len(keys) for keys in json.loads(note.read_text(encoding="utf-8"))["samples_by_process"]]
    faults = [] if len(shares) == 2 and all(shares) else [f"samples of the step were noted as {shares}"]
    broken = [name for name, value in exported(run).items() if not bool(value.isfinite().all())]
    return faults + [f"{name} is not finite" for name in broken]
