"""``robustclip sweep``: one recipe with many values, as runs beside one another and one page about all of them."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.files import ConfigError, write_atomically
from launch.sweep.axes import read_axes
from launch.sweep.expansion import expand
from launch.sweep.folder import finish_sweep, open_sweep, write_request
from launch.sweep.kinds import kind_of
from launch.sweep.starting import Launch, job_of, line_of, sharing_faults

if TYPE_CHECKING:
    from launch.sweep.planning import Planned


@dataclass(frozen=True)
class Wishes:
    """What was said about a sweep beside its recipe.

    Attributes:
        kind: of the recipe.
        out: folder.
        launch: how runs are started.
        against: the run that others are compared with.
        dry_run: only say what would be run.
    """

    kind: str | None = None
    out: Path | None = None
    launch: Launch = Launch()
    against: str = "first"
    dry_run: bool = False


def run_sweep(recipe: str, words: Sequence[str], wishes: Wishes, *, command: str) -> int:
    """Run a sweep, or go on with it; the exit code is 1 where runs are left unfinished.

    Args:
        recipe: its name, or its file.
        words: key=value and key=value,value.
        wishes: what else was said.
        command: for the record.

    Raises:
        ConfigError: every fault of the words, the recipe and all runs, one a line.
    """
    kind = kind_of(recipe, wishes.kind)
    if faults := wishes.launch.faults():
        raise ConfigError("\n".join(faults))
    points = expand(read_axes(words, kind))
    request: dict[str, Any] = {"kind": kind, "recipe": recipe, "words": list(words)}
    out = open_sweep(Path(recipe).stem, request, wishes.out)

    from launch.sweep.planning import plan_runs

    runs = plan_runs(kind, recipe, points, out)
    _check(runs, wishes)
    if wishes.dry_run:
        _show(runs, wishes.launch)
        return 0
    return _run(f"{kind} {Path(recipe).stem}", runs, out, wishes, request | {"command": command})


def _check(runs: Sequence[Planned], wishes: Wishes) -> None:
    """What only all runs together show."""
    faults: dict[str, None] = {}
    for run in runs:
        if run.stages[0].steps:
            faults |= dict.fromkeys(sharing_faults(run.config.data.batch_size, wishes.launch))
    if wishes.against not in ("first", "best", *(run.name for run in runs)):
        faults[f"--against {wishes.against}: no run has this name; say first, best or {runs[-1].name}"] = None
    if wishes.launch.by == "deepspeed" and not runs[0].stages[0].steps:
        faults["--launch deepspeed trains; this recipe evaluates"] = None
    if faults:
        raise ConfigError("\n".join(faults))


def _show(runs: Sequence[Planned], launch: Launch) -> None:
    """Print the runs, and the exact command or script of each."""
    from launch.launchers.job import shown
    from launch.sweep.queue import resources_of, script_of

    for number, run in enumerate(runs, start=1):
        state = "done" if run.finished else "to run"
        print(f"# [{number}/{len(runs)}] {run.name}: {state}")
        for stage in run.stages:
            if launch.by == "slurm":
                job = job_of(stage, run.name, launch)
                print(script_of(job, resources_of(run.config, launch)))
            else:
                print(shown(line_of(stage, run.name, launch)))


def _run(title: str, runs: Sequence[Planned], out: Path, wishes: Wishes, request: dict[str, Any]) -> int:
    from launch.sweep.children import alone
    from launch.sweep.planning import judges

    with alone(out) as lock:
        write_request(out, {key: value for key, value in request.items() if key != "command"})
        for name, text in judges(runs).items():
            write_atomically(out / name, text)
        if wishes.launch.by == "slurm":
            from launch.sweep.queue import queue

            why = queue(runs, out, wishes.launch)
        else:
            why = _here(runs, out, wishes.launch, lock)
        return _tell(title, runs, out, wishes, {"command": request["command"], "why": why})


def _here(runs: Sequence[Planned], out: Path, launch: Launch, lock: int) -> dict[str, str]:
    from launch.sweep.local import Local, SignalledError

    local = Local(out, launch, lock)
    try:
        return local.run(runs)
    except SignalledError as signalled:
        name = str(signalled)
        print(f"stopped by {name}; all runs have left; the same command goes on from there", flush=True)
        raise SystemExit(0 if name in (signal.SIGTERM.name, signal.SIGUSR1.name) else 1) from None


def _tell(title: str, runs: Sequence[Planned], out: Path, wishes: Wishes, about: dict[str, Any]) -> int:
    """Print and write what all finished runs say, and which are not."""
    from data.terminal import terminal
    from launch.sweep.page import build_sweep_page
    from launch.sweep.record import read_groups, read_measures
    from launch.sweep.seeds import over_seeds
    from launch.sweep.table import terminal_group, terminal_measures, terminal_seeds, write_table

    console, why = terminal(), about["why"]
    states = {run.name: "done" if run.finished else why.get(run.name, "not started") for run in runs}
    groups, measures = read_groups(runs, wishes.against), read_measures(runs)
    for group in groups:
        console.print(terminal_group(group))
        if any(len(one.lines) > 1 for one in over_seeds(group.lines)):
            console.print(terminal_seeds(group, over_seeds(group.lines)))
        for note in group.notes:
            console.print(f"! {note}", style="magenta", markup=False, highlight=False)
    if measures:
        console.print(terminal_measures(measures))
    write_table(out / "sweep.csv", runs, groups, measures, states)
    told = {"command": about["command"], "states": states}
    page = build_sweep_page(out, title, runs, groups, measures, told)
    for run in runs:
        if states[run.name] != "done":
            print(f"not finished: {run.name}: {states[run.name]} (log: {out / 'logs' / run.name}.log)")
    if not groups and not measures and any(state == "done" for state in states.values()):
        print("no run has numbers to compare; say evaluation.recipe=NAME to judge what is trained")
    print(f"sweep: {page}")
    if all(state == "done" for state in states.values()):
        finish_sweep(out)
        return 0
    return 0 if wishes.launch.by == "slurm" and not why.get("") else 1
