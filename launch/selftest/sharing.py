"""A run that stops among two processes goes on in one and in four, with the same samples and the same losses."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

from data.sample import digits
from launch.selftest.check import Check, judged, stopwatch
from launch.selftest.multiset import epoch_faults, stream
from launch.selftest.stage import Stage, apart, curve, ended, wait_for_step
from train.samples import samples_files

CLOSE = 1e-5
_STOP = 6  # a step after which the run is told to end, in the midst of an epoch and between two checkpoints
_PROMPT = 30.0


def sharing(stage: Stage) -> list[Check]:
    """Of the undisturbed run of two processes, a stop by a signal to one of them, and going on with other numbers."""
    with stopwatch() as taken:
        faults = stage.run("two", 2)
        keys = digits("tune").keys
        faults += epoch_faults(stage.out / "two", keys)[0]
    whole = epoch_faults(stage.out / "two", keys)[1]
    found = [judged("two processes, undisturbed", faults, _epochs(stage.out / "two", whole), taken[0])]
    found.append(leaving(stage))
    if not all(check.passed for check in found):
        return found
    return [*found, *(going_on(stage, processes) for processes in (1, 4))]


def leaving(stage: Stage) -> Check:
    """SIGTERM to one of two processes: both save within a step and leave."""
    run = stage.out / "stopped"
    with stopwatch() as taken:
        life = stage.start("stopped", 2)
        faults = wait_for_step(life, run, _STOP)
        asked = max(curve(run), default=0)
        life.send(signal.SIGTERM, [1])
        faults = faults or ended(life, _PROMPT)
    saved = sorted((run / "checkpoints").glob("step=*.ckpt"))
    step = int(saved[-1].stem.partition("=")[2]) if saved else 0
    if not faults and not asked <= step <= asked + 2:  # its line of metrics is written in the midst of a step's end
        faults.append(f"asked at step {asked}, saved at step {step}")
    if (run / "done").exists():
        faults.append("it ended instead of leaving")
    told = f"both left with code 0; asked at step {asked}, saved at step {step}"
    return judged("SIGTERM to one of two processes", faults, told, taken[0])


def going_on(stage: Stage, processes: int) -> Check:
    """The run that was stopped goes on among so many."""
    name = f"stopped-then-{processes}"
    run, reference, keys = stage.out / name, stage.out / "two", digits("tune").keys
    shutil.copytree(stage.out / "stopped", run)
    with stopwatch() as taken:
        faults = stage.run(name, processes)
    faults += epoch_faults(run, keys)[0]
    if stream(run) != stream(reference):
        faults.append("other samples, or in another order, than two processes read")
    if len(samples_files(run)) != max(2, processes):
        faults.append(f"{len(samples_files(run))} processes noted samples")
    far = apart([*curve(reference).values()], [*curve(run).values()])
    if not far <= CLOSE:
        faults.append(f"losses differ by up to {far:.1e} of their size, more than {CLOSE:.0e}")
    told = f"{_epochs(run, epoch_faults(run, keys)[1])}, in the same order; losses within {far:.1e} of their size"
    return judged(f"stopped at 2, goes on at {processes}", faults, told, taken[0])


def _epochs(run: Path, whole: int) -> str:
    return f"{len(stream(run))} samples, each once in {whole} whole epoch{'s' if whole != 1 else ''}"
