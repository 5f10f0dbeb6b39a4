"""Commands that say what weights are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.commands.words import AllowMismatch, DryRun, Out, Overrides, Recipe, allowed, typed


def evaluate(
    checkpoint: Annotated[
        str,
        typer.Argument(help="A checkpoint of an image tower, or the name of a model, e.g. tiny."),
    ] = "",
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name, or a .yaml file; not with --protocol.")] = "",
    overrides: Overrides = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="A published protocol; says the sets, attacks and radii.")
    ] = None,
    list_protocols: Annotated[bool, typer.Option("--list-protocols", help="Show the protocols, and end.")] = False,
    out: Out = None,
    dry_run: DryRun = False,
    shard: Annotated[str, typer.Option("--shard", help="Judge one part of the images, e.g. 3/8.")] = "1/1",
    allow_mismatch: AllowMismatch = False,
) -> None:
    """Judge a checkpoint, bare and behind defences, by every attack and view of a recipe.

    Started again, it goes on where it stopped.  Split over jobs with --shard 1/8 … 8/8 and one --out, or over the
    ranks of torchrun; robustclip report then joins the parts.

    With --protocol NAME data=FOLDER the sets are found under one folder, and ours stand beside the published numbers.

    Example: robustclip evaluate runs/fare/export/encoder.safetensors digits prior=prior.safetensors
    """
    from launch.judging import run_judging

    told = allowed(overrides, allow_mismatch)
    words = ([recipe] if recipe else []) + told
    run_judging(
        checkpoint, words, out, protocol=protocol, listing=list_protocols, dry_run=dry_run, command=typed(), shard=shard
    )


def watch(
    run: Annotated[Path, typer.Argument(help="Folder of a training, running or ended.")],
    recipe: Annotated[str | None, typer.Argument(help="An evaluation recipe; the training's own by default.")] = None,
    overrides: Overrides = None,
    once: Annotated[bool, typer.Option("--once", help="Judge what is there, and end.")] = False,
    poll: Annotated[float, typer.Option("--poll", help="Seconds between two looks for a new checkpoint.")] = 30.0,
) -> None:
    """Judge the checkpoints of a training from another process or machine, each once.

    Several at once share the work; one that dies is succeeded.  Ends when the training has ended and all is judged.

    Example: robustclip watch runs/fare checkpoint tasks.imagenet.shards=/data/imagenet-val
    """
    from launch.watching import run_watch

    run_watch(run, recipe, overrides or [], once=once, poll=poll, command=typed())


def scorecard(
    model: Annotated[
        str,
        typer.Argument(help="A model of open_clip or a hub, a checkpoint's file, or tiny, the embedded model."),
    ],
    overrides: Overrides = None,
    budget: Annotated[
        str,
        typer.Option("--budget", help="quick, standard, thorough, or a .yaml file."),
    ] = "standard",
    out: Out = None,
    dry_run: DryRun = False,
    allow_mismatch: AllowMismatch = False,
) -> None:
    """Say how robust one encoder is, bare or behind one defence, and why to believe it.

    One page and scorecard.json: the worst case over all attacks and views, its interval, what converged, and every
    doubt in words.

    Example: robustclip scorecard tiny defense.name=ttc defense.steps=2 --budget quick --out runs/ttc
    """
    from launch.scorecard import run_scorecard

    run_scorecard(model, allowed(overrides, allow_mismatch), budget, out, command=typed(), dry_run=dry_run)


def tune(recipe: Recipe, overrides: Overrides = None, out: Out = None, dry_run: DryRun = False) -> None:
    """Search the settings of a defence, by their adaptive worst case, and say whether any beats no defence.

    Settings are chosen on a tuning split and judged on another one.  Started again, it goes on where it stopped.

    Example: robustclip tune clipure_diff_tiny prior=prior.safetensors search.steps=[1,3] --out runs/tuned
    """
    from launch.tuning import run_tune

    run_tune(recipe, overrides or [], out, command=typed(), dry_run=dry_run)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, side by side on one page.")],
    out: Out = None,
) -> None:
    """Write one self-contained page about one or more runs.

    Example: robustclip report runs/demo --out report
    """
    from launch.evaluation import run_report

    run_report(runs, out)


def compare(
    first: Annotated[Path, typer.Argument(help="Folder of an evaluation or a scorecard.")],
    second: Annotated[Path, typer.Argument(help="Another on the same images, or the same again.")],
    defense: Annotated[str | None, typer.Option("--defense", help="A name for both, or two: none,ttc.")] = None,
    out: Out = None,
) -> None:
    """Say whether one run holds more than another on the very same images, or whether that is chance.

    Example: robustclip compare runs/bare runs/ttc --out comparison
    """
    from launch.comparison import run_compare

    run_compare(first, second, defense, out)


def bench(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help="train-step, autoattack, defences, prior, loader, start-up, growth; all where none is named."
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small models, few rounds.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the findings to a file.")] = None,
    accelerator: Annotated[str, typer.Option("--accelerator", help="auto, cpu or cuda.")] = "auto",
    peer: Annotated[
        str | None, typer.Option("--peer", help="The Python of an environment with dalle2-pytorch, for prior.")
    ] = None,
    out: Out = None,
) -> None:
    """Measure what things cost beside others that do the same, in turn; ratios first.

    With --out a run folder whose page shows them; beside other runs, robustclip report does.

    Example: robustclip bench defences --json bench.json --out runs/speed
    """
    from launch.bench.command import run_bench

    settings = {"quick": quick, "json_file": json_file, "accelerator": accelerator, "peer": peer}
    run_bench(what or [], **settings, out=out, command=typed())


def traps(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Traps or kinds of traps, or broken or honest; all where none is named."),
    ] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Number of processes that share the work.")] = 1,
    listing: Annotated[bool, typer.Option("--list", help="Show the traps, and end.")] = False,
    out: Out = None,
) -> None:
    """Check the scorecard itself: on defenses that only seem robust, and on honest models.

    Each is evaluated by the quick budget on the embedded digits, and compared with an attack written for it.  Exit
    code 1 if a broken one passes for robust, or an honest one is not believed.  With --out a run folder with
    traps.json and a page; robustclip report shows it next to other runs.

    Example: robustclip traps state router --processes 2 --out runs/traps
    """
    from launch.traps import list_traps, run_traps

    if listing:
        list_traps(names or [])
    elif not run_traps(names or [], out, processes=processes, command=typed()):
        raise SystemExit(1)
