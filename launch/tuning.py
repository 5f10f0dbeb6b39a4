"""``robustclip tune``: from a recipe to a setting, a verdict and a page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from configs.load import load_config, plain
from configs.schema import TuneConfig

if TYPE_CHECKING:
    from rich.table import Table


def run_tune(recipe: str, overrides: Sequence[str], out: Path | None, *, command: str, dry_run: bool = False) -> None:
    """Tune the defence of a recipe, or go on with it.

    Args:
        recipe: its name, or its file.
        overrides: ``a.b=c``.
        out: folder.
        command: for the record.
        dry_run: only say what would be done.

    Raises:
        ConfigError: every fault of the recipe and the overrides, one a line.
        ValueError: model, data or defence cannot be had.
    """
    config = load_config("tune", recipe, overrides)
    if dry_run:
        _show_plan(Path(recipe).stem, config)
        return
    from data.terminal import terminal
    from eval.tuning import tune_defense
    from eval.tuning_page import build_tuning_page
    from eval.tuning_record import read_tuning
    from eval.tuning_table import tuning_table
    from train.runs import open_run

    run = open_run(f"tune-{Path(recipe).stem}", config, out, command=command)
    if not run.finished:
        begin = time.perf_counter()
        tune_defense(config, run.folder, command=command)
        run.finish({"tune": time.perf_counter() - begin})
    tuning = read_tuning(run.folder)
    page = build_tuning_page(tuning, run.folder)
    terminal().print(tuning_table(tuning))
    print(f"the winner: {tuning.line}\ntuning: {page}")


def _show_plan(name: str, config: TuneConfig) -> None:
    from configs.load import to_yaml
    from configs.tuning import grid_of
    from data.terminal import terminal
    from launch.dry_run import model_rows

    console = terminal()
    console.print(_plan_table(name, config, model_rows(config.model)))
    grid = grid_of(plain(config))
    for candidate in grid.candidates:
        console.print(f"  {candidate.name}", markup=False, highlight=False)
    for setting, why in grid.impossible.items():
        console.print(f"  left out: {setting} ({why})", style="dim", markup=False, highlight=False)
    console.print(to_yaml(config), markup=False, highlight=False)


def _plan_table(name: str, config: TuneConfig, model: Sequence[tuple[str, str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from configs.tuning import grid_of
    from eval.tuning_plan import work_of
    from launch.dry_run import ball_of

    grid = grid_of(plain(config))
    table = Table(title=Text(f"tune {name}", style="italic"), show_header=False)
    for label, value in model:
        table.add_row(label, Text(value))
    table.add_row("in the ball", ball_of(config.threat))
    table.add_row("searched", Text(", ".join(f"{key} {values}" for key, values in config.search.items())))
    table.add_row("settings", f"{len(grid.candidates):,} of {grid.size:,}, {len(grid.impossible):,} impossible")
    for work in work_of(config, grid):
        images = "all" if work.images is None else f"{work.images:,}"
        table.add_row(
            work.name,
            f"{images} images x {work.settings:,} settings and the undefended encoder: at most {work.attacks:,} "
            f"attacks x views, {work.gradients:,} gradients and {work.queries:,} queries per image",
        )
    return table
