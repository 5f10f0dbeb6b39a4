"""``robustclip robustify``: forecast, train, judge, export, and one page; each part once, however often it starts."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.files import ConfigError, write_atomically
from launch.launchers.ranks import processes_of
from launch.robustify.cost import agreed, cost_in_words, forecast_of, show_forecast
from launch.robustify.job import RECIPE, Robustification
from launch.robustify.phases import run_phases
from launch.robustify.request import Request, read_request
from launch.robustify.tuned import recipe_text, with_body

_OPENED = {"config.yaml", "env.json", ".lock"}
"""What lies in a folder before anything was done there."""


@dataclass(frozen=True)
class Wishes:
    """What was said beside model and settings.

    Attributes:
        out: folder.
        quick: a trial.
        budget: of the scorecards.
        licence: of the result, for its card.
        yes: do not ask.
        dry_run: show recipe and forecast, start nothing.
    """

    out: Path | None = None
    quick: bool = False
    budget: str | None = None
    licence: str = ""
    yes: bool = False
    dry_run: bool = False


def run_robustify(model: str, words: Sequence[str], wishes: Wishes, *, command: str) -> None:
    """Make a robust model of a base, or go on with it.

    Args:
        model: name of the base.
        words: the tag of its weights, and key=value.
        wishes: what else was said.
        command: for the record.

    Raises:
        ConfigError: every fault of what was said, one a line.
        ValueError: model or data cannot be had.
        SystemExit: the training was told to stop, or failed, and has said so.
    """
    if processes_of() > 1:
        raise ConfigError("robustify is one process, which starts those of the training; leave the launcher out")
    request = read_request(model, words, quick=wishes.quick, budget=wishes.budget)
    if wishes.dry_run:
        found = forecast_of(request)
        print(recipe_text(request.tuned, cost=cost_in_words(found)))
        show_forecast(found)
        return
    from launch.sweep.children import alone
    from train.runs import open_run

    run = open_run(f"robustify-{request.name}", request.config, wishes.out, command=command)
    with alone(run.folder) as lock:
        if not _ready(request, run.folder, yes=wishes.yes):
            return
        job = Robustification(request, run.folder, wishes.licence, command, lock)
        run_phases(job.phases(), job.note)
        if not run.finished:
            run.finish({})
        job.tell()


def _ready(request: Request, folder: Path, *, yes: bool) -> bool:
    """Whether the recipe lies in the folder and the user wants it; a folder in which nothing was begun goes."""
    file = folder / RECIPE
    if file.is_file():
        text = with_body(
            file.read_text(encoding="utf-8"), request.tuned
        )  # devices and readers may be others than before
        if text != file.read_text(encoding="utf-8"):
            write_atomically(file, text)
        return True
    from launch.robustify.early import data_faults

    try:
        if faults := data_faults(request.finetune):
            raise ConfigError("\n".join(faults))
        return _begin(request, file, yes=yes)
    finally:
        if {path.name for path in folder.iterdir()} <= _OPENED:
            shutil.rmtree(folder)


def _begin(request: Request, file: Path, *, yes: bool) -> bool:
    """Say what it costs and write the recipe; False where the user does not want it."""
    found = forecast_of(request)
    text = recipe_text(request.tuned, cost=cost_in_words(found))
    print("\n".join(line for line in text.splitlines() if line.startswith("#")))
    show_forecast(found)
    sys.stdout.flush()
    if not agreed(yes=yes):
        return False
    write_atomically(file, text)
    return True
