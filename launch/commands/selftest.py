"""Commands that prove, on the user's own machine, what is said about survival."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.commands.words import CommandGroup

selftest_app = CommandGroup(
    no_args_is_help=True,
    help="Prove on this machine that a training survives what happens to it; exit code 1 if it does not.",
)

Quick = Annotated[bool, typer.Option("--quick", help="Under a minute on two CPU cores.")]
Out = Annotated[Path | None, typer.Option("--out", help="New folder for the runs and selftest.json.")]
Plant = Annotated[str, typer.Option("--plant", help="See it fail: forgotten-draws, lost-batch or orphan.")]


@selftest_app.command()
def resume(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="A recipe of yours and key=value; the embedded model where none is named.",
            metavar="[RECIPE] [KEY=VALUE]...",
        ),
    ] = None,
    quick: Quick = False,
    processes: Annotated[int, typer.Option("--processes", help="That train together, on this machine.")] = 2,
    kills: Annotated[int | None, typer.Option("--kills", help="How many; 50, and 6 with --quick.")] = None,
    strategy: Annotated[str, typer.Option("--strategy", help="ddp, fsdp2, zero1, zero2 or zero3.")] = "ddp",
    seed: Annotated[int, typer.Option("--seed", help="Of the moments.")] = 0,
    plant: Annotated[
        str, typer.Option("--plant", help="A fault to be found: forgotten-draws, lost-batch, orphan.")
    ] = "",
    out: Out = None,
) -> None:
    """Kill a training at random moments, also in saving, start it again, and compare every bit with one undisturbed.

    Example: robustclip selftest resume --quick
    """
    from launch.selftest.command import run_resume

    how = {"strategy": strategy, "plant": plant}
    if not run_resume(words or [], out, quick=quick, processes=processes, kills=kills, seed=seed, **how):
        raise SystemExit(1)


@selftest_app.command()
def distributed(quick: Quick = False, plant: Plant = "", out: Out = None) -> None:
    """Stop, kill and move processes of a training, here: what the others do, which samples they read, how it ends.

    Example: robustclip selftest distributed --quick
    """
    from launch.selftest.command import run_distributed

    if not run_distributed(out, quick=quick, plant=plant):
        raise SystemExit(1)
