"""The command line: ``robustclip``.  Heavy libraries are imported by the commands, never by ``--help``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from launch.errors import explain, say
from launch.launchers.commands import launch_app
from launch.launchers.preemption import heed_the_warning
from launch.launchers.ranks import adopt
from launch.models import model_app

app = typer.Typer(
    name="robustclip",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help=(
        "Make any CLIP robust, and say honestly how robust it is.\n\n"
        "Start with [bold]robustclip demo[/bold]: the whole job on embedded data, in minutes on a laptop.\n\n"
        "Recipes are YAML files named on the command line, and changed there:\n\n"
        "[dim]robustclip finetune fare_vit_l14_eps4 trainer.devices=8 data.shards='/data/train-{0000..1023}.tar'[/dim]"
    ),
)
data_app = typer.Typer(no_args_is_help=True, help="Make and inspect shards of images.")
app.add_typer(data_app, name="data")
app.add_typer(launch_app, name="launch")
app.add_typer(model_app, name="model")

Recipe = Annotated[str, typer.Argument(help="A shipped recipe's name, or a .yaml file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="key=value, e.g. trainer.devices=8", metavar="[KEY=VALUE]..."),
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for what is written.")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Build all but weights and data; print shapes, counts and the plan."),
]
AllowMismatch = Annotated[
    bool,
    typer.Option("--allow-mismatch", help="Use a prior that belongs to another encoder; every row says so."),
]

ShardsArgument = Annotated[
    str, typer.Argument(help="A folder of shards, x-{0..9}.tar, or such tars at https://, s3://, gs://.")
]
CacheGiB = Annotated[float | None, typer.Option("--cache", help="GiB that fetched shards may take.")]
CacheDir = Annotated[str | None, typer.Option("--cache-dir", help="Folder for fetched shards.")]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
) -> None:
    if debug:
        os.environ["ROBUSTCLIP_DEBUG"] = "1"


def _command() -> str:
    import shlex

    return shlex.join(["robustclip", *sys.argv[1:]])


def _allowed(overrides: list[str] | None, allow_mismatch: bool) -> list[str]:
    return [*(overrides or []), *(["allow_mismatch=true"] if allow_mismatch else [])]


@app.command()
def demo(
    quick: Annotated[bool, typer.Option("--quick", help="Smaller everything: a minute and a half.")] = False,
    out: Out = None,
) -> None:
    """Run the whole job on embedded data: fine-tune, train priors, evaluate, report.

    Example: robustclip demo --quick --out runs/demo
    """
    from train.demo import demo as run_demo

    run_demo(quick=quick, out=out, command=_command())


@app.command()
def pretrain(recipe: Recipe, overrides: Overrides = None, out: Out = None, dry_run: DryRun = False) -> None:
    """Pretrain the embedded tiny CLIP from scratch.

    Example: robustclip pretrain tiny --out runs/tiny
    """
    from launch.job import run_job

    run_job("pretrain", recipe, overrides or [], out, dry_run=dry_run, command=_command())


@app.command()
def finetune(recipe: Recipe, overrides: Overrides = None, out: Out = None, dry_run: DryRun = False) -> None:
    """Fine-tune a CLIP adversarially (FARE, TeCoA); evaluate every checkpoint.

    Started again, an interrupted run goes on.

    Example: robustclip finetune fare_tiny_eps4 optimizer.max_steps=200
    """
    from launch.job import run_job

    run_job("finetune", recipe, overrides or [], out, dry_run=dry_run, command=_command())


@app.command()
def embed(recipe: Recipe, overrides: Overrides = None, out: Out = None, dry_run: DryRun = False) -> None:
    """Turn images and captions into embedding shards for a prior.

    Example: robustclip embed tiny model.checkpoint=encoder.safetensors --out embeddings
    """
    from launch.job import run_job

    run_job("embed", recipe, overrides or [], out, dry_run=dry_run, command=_command())


@app.command()
def prior(recipe: Recipe, overrides: Overrides = None, out: Out = None, dry_run: DryRun = False) -> None:
    """Train a DiffusionPrior on embedding shards, for CLIPure-Diff.

    Example: robustclip prior prior_tiny data.shards=embeddings
    """
    from launch.job import run_job

    run_job("prior", recipe, overrides or [], out, dry_run=dry_run, command=_command())


@app.command()
def evaluate(
    checkpoint: Annotated[
        str,
        typer.Argument(help="A checkpoint of an image tower, or the name of a model, e.g. tiny."),
    ],
    recipe: Recipe,
    overrides: Overrides = None,
    out: Out = None,
    dry_run: DryRun = False,
    shard: Annotated[str, typer.Option("--shard", help="Judge one part of the images, e.g. 3/8.")] = "1/1",
    allow_mismatch: AllowMismatch = False,
) -> None:
    """Judge a checkpoint, bare and behind defences, by every attack and view of a recipe.

    Started again, it goes on where it stopped.  Split over jobs with --shard 1/8 … 8/8 and one --out, or over the
    ranks of torchrun; robustclip report then joins the parts.

    Example: robustclip evaluate runs/fare/export/encoder.safetensors digits prior=prior.safetensors
    """
    from launch.evaluation import run_evaluation

    told = _allowed(overrides, allow_mismatch)
    run_evaluation(checkpoint, recipe, told, out, dry_run=dry_run, command=_command(), shard=shard)


@app.command()
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

    run_scorecard(model, _allowed(overrides, allow_mismatch), budget, out, command=_command(), dry_run=dry_run)


@app.command()
def tune(recipe: Recipe, overrides: Overrides = None, out: Out = None, dry_run: DryRun = False) -> None:
    """Search the settings of a defence, by their adaptive worst case, and say whether any beats no defence.

    Settings are chosen on a tuning split and judged on another one.  Started again, it goes on where it stopped.

    Example: robustclip tune clipure_diff_tiny prior=prior.safetensors search.steps=[1,3] --out runs/tuned
    """
    from launch.tuning import run_tune

    run_tune(recipe, overrides or [], out, command=_command(), dry_run=dry_run)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, side by side on one page.")],
    out: Out = None,
) -> None:
    """Write one self-contained page about one or more runs.

    Example: robustclip report runs/demo --out report
    """
    from launch.evaluation import run_report

    run_report(runs, out)


@app.command()
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


@app.command()
def bench(
    what: Annotated[list[str] | None, typer.Argument(help="defences, loader; all where none is named.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small models, few rounds.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the findings to a file.")] = None,
    accelerator: Annotated[str, typer.Option("--accelerator", help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Measure what things cost, side by side in one process; ratios first.

    Example: robustclip bench defences --json bench.json
    """
    from launch.bench.command import run_bench

    run_bench(what or [], quick=quick, json_file=json_file, accelerator=accelerator)


@app.command()
def plan(
    recipe: Recipe,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="nodes=4 devices=8 and any key=value of the recipe.", metavar="[KEY=VALUE]..."),
    ] = None,
    gpu: Annotated[str | None, typer.Option("--gpu", help="a100, h100, h200, l40s or v100.")] = None,
    tflops: Annotated[float | None, typer.Option("--tflops", help="Peak rate of a GPU, instead of its name.")] = None,
    mfu: Annotated[float, typer.Option("--mfu", help="Share of the peak rate that is reached; an assumption.")] = 0.4,
    throughput: Annotated[float | None, typer.Option("--throughput", help="Samples a second, all GPUs.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Run a few steps here, and count with those.")] = False,
    sample_kb: Annotated[float | None, typer.Option("--sample-kb", help="Size of a stored sample.")] = None,
    rehearsal: Annotated[bool, typer.Option(help="Try a step among pretended processes.")] = True,
) -> None:
    """Say what a training will cost before it starts: work, time, memory, disk; and rehearse its processes.

    Example: robustclip plan fare_vit_l14_eps4 nodes=4 devices=8 trainer.precision=bf16-mixed --gpu h100
    """
    from launch.forecast.command import run_plan
    from launch.forecast.plan import Rates

    rates = Rates(gpu, tflops, mfu, throughput, measure, sample_kb)
    run_plan(recipe, overrides or [], rates, rehearsal=rehearsal)


@data_app.command("make")
def data_make(
    source: Annotated[str, typer.Argument(help="A folder of class folders, or 'digits'.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the shards.")],
    split: Annotated[str, typer.Option(help="Name of the split that a folder becomes.")] = "test",
    per_shard: Annotated[int, typer.Option(help="Images per shard.")] = 1000,
    skip_bad: Annotated[bool, typer.Option(help="Leave out images that do not decode.")] = False,
) -> None:
    """Write webdataset shards from an image folder or from the embedded set.

    Example: robustclip data make photos --out shards --split train
    """
    from launch.job import make_data

    make_data(source, out, split=split, per_shard=per_shard, skip_bad=skip_bad)


@data_app.command("stats")
def data_stats(
    shards: Annotated[str, typer.Argument(help="digits, a folder of shards, or x-{0..9}.tar")],
    split: Annotated[str, typer.Option(help="Which split.")] = "test",
) -> None:
    """Count the images, classes and sizes of a data set.

    Example: robustclip data stats shards --split train
    """
    from launch.job import show_statistics

    show_statistics(shards, split)


@data_app.command("index")
def data_index(
    shards: ShardsArgument,
    split: Annotated[str, typer.Option(help="Which split.")] = "train",
    cache: CacheGiB = None,
    cache_dir: CacheDir = None,
) -> None:
    """Write the index of each shard beside it, so that training starts at once.

    Indexes that fit stay as they are.  Upload them with the shards, and training from there starts at once too.

    Example: robustclip data index '/data/train-{0000..1023}.tar'
    """
    from launch.data import index_data

    index_data(shards, split, cache_gib=cache, cache_dir=cache_dir)


@data_app.command("check")
def data_check(
    shards: ShardsArgument,
    split: Annotated[str, typer.Option(help="Which split.")] = "train",
    workers: Annotated[int, typer.Option(help="Processes that decode.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print plain values.")] = False,
    cache: CacheGiB = None,
    cache_dir: CacheDir = None,
) -> None:
    """Decode every sample, compare checksums, and count what is wrong by reason; exit code 1 if anything is.

    Example: robustclip data check shards --split train --workers 8 --json
    """
    from launch.data import check_data

    code = check_data(shards, split, workers=workers, as_json=as_json, cache_gib=cache, cache_dir=cache_dir)
    if code:
        raise SystemExit(code)


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2, Ctrl-C is 130."""
    # OpenMP threads that wait by spinning starve each other where cores are shared; read when torch is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.update(adopt())
    heed_the_warning(next((word for word in sys.argv[1:] if not word.startswith("-")), ""))
    debug = "--debug" in sys.argv
    try:
        code = app(standalone_mode=False) or 0  # typer turns Ctrl-C into a return value of 130
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else 2
    except Exception as error:
        if debug:
            raise
        code = explain(error)
    if code == 130:
        say("interrupted; start the same command again to go on")
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
