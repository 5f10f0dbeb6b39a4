"""Commands that run one recipe many times."""

from __future__ import annotations

from typing import Annotated

import typer

from launch.commands.words import Out, Recipe, typed


def sweep(
    recipe: Recipe,
    values: Annotated[
        list[str] | None,
        typer.Argument(help="key=value,value, e.g. eps=2,4 seed=0,1; [1,2] is one list.", metavar="[KEY=VALUES]..."),
    ] = None,
    out: Out = None,
    kind: Annotated[str | None, typer.Option("--kind", help="finetune, prior, evaluate or scorecard.")] = None,
    launch: Annotated[str, typer.Option("--launch", help="local, torchrun, deepspeed or slurm.")] = "local",
    jobs: Annotated[int, typer.Option("--jobs", help="Runs at a time, on this machine.")] = 1,
    gpus: Annotated[int | None, typer.Option("--gpus", "--devices", help="Processes of a run, one per GPU.")] = None,
    nodes: Annotated[int, typer.Option("--nodes", help="Machines of a run, with --launch slurm.")] = 1,
    sbatch: Annotated[list[str] | None, typer.Option("--sbatch", help="Option of sbatch, e.g. time=8:00:00.")] = None,
    against: Annotated[
        str, typer.Option("--against", help="first, best, or the run that others are tested against.")
    ] = "first",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all runs, show their commands.")] = False,
) -> int:
    """Run a recipe with every combination of some values, and compare the runs on the same images.

    Short keys: eps (in 1/255), norm, lr, steps, batch, data, model, pretrained.  Started again, finished runs are
    skipped and the others go on.

    Example: robustclip sweep fare_tiny_eps4 eps=2,4 objective.name=fare,tecoa --out runs/sweep
    """
    from launch.sweep.command import Wishes, run_sweep
    from launch.sweep.starting import Launch

    way = Launch(launch, gpus, nodes, jobs, tuple(sbatch or ()))
    return run_sweep(recipe, values or [], Wishes(kind, out, way, against, dry_run), command=typed())
