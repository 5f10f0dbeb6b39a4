"""Commands that make weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from configs.files import ConfigError
from launch.commands.words import DryRun, Out, Overrides, Recipe, typed

_KEYS = "[KEY=VALUE]..."


def demo(
    about: Annotated[
        str,
        typer.Argument(help="perceptual: what encoders find alike. Without it, the whole job.", metavar="[perceptual]"),
    ] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Smaller everything: a minute and a half.")] = False,
    out: Out = None,
) -> None:
    """Run the whole job on embedded data: fine-tune, train priors, evaluate, report.

    Example: robustclip demo --quick --out runs/demo
    """
    if about not in ("", "perceptual"):
        raise ConfigError(f"unknown demo '{about}'; choose: perceptual, or none for the whole job")
    if about:
        from train.demo_perceptual import demo_perceptual

        demo_perceptual(quick=quick, out=out, command=typed())
        return
    from train.demo import demo as run_demo

    run_demo(quick=quick, out=out, command=typed())


def pretrain(recipe: Recipe, overrides: Overrides = None, out: Out = None, dry_run: DryRun = False) -> None:
    """Pretrain the embedded tiny CLIP from scratch.

    Example: robustclip pretrain tiny --out runs/tiny
    """
    from launch.job import run_job

    run_job("pretrain", recipe, overrides or [], out, dry_run=dry_run, command=typed())


def finetune(recipe: Recipe, overrides: Overrides = None, out: Out = None, dry_run: DryRun = False) -> None:
    """Fine-tune a CLIP adversarially (FARE, TeCoA); evaluate every checkpoint.

    Started again, an interrupted run goes on.

    Example: robustclip finetune fare_tiny_eps4 optimizer.max_steps=200
    """
    from launch.job import run_job

    run_job("finetune", recipe, overrides or [], out, dry_run=dry_run, command=typed())


def perceptual(recipe: Recipe, overrides: Overrides = None, out: Out = None, dry_run: DryRun = False) -> None:
    """Tune what an encoder finds alike on triplets (NIGHTS): a head or LoRA.

    Started again, an interrupted run goes on.  model.checkpoint names a robust encoder to start from.

    Example: robustclip perceptual lora_tiny
    """
    from launch.job import run_job

    run_job("perceptual", recipe, overrides or [], out, dry_run=dry_run, command=typed())


def embed(recipe: Recipe, overrides: Overrides = None, out: Out = None, dry_run: DryRun = False) -> None:
    """Turn images and captions into embedding shards for a prior.

    Example: robustclip embed tiny model.checkpoint=encoder.safetensors --out embeddings
    """
    from launch.job import run_job

    run_job("embed", recipe, overrides or [], out, dry_run=dry_run, command=typed())


def prior(recipe: Recipe, overrides: Overrides = None, out: Out = None, dry_run: DryRun = False) -> None:
    """Train a DiffusionPrior on embedding shards, for CLIPure-Diff.

    Example: robustclip prior prior_tiny data.shards=embeddings
    """
    from launch.job import run_job

    run_job("prior", recipe, overrides or [], out, dry_run=dry_run, command=typed())


def replay(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finetune or prior run.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="What is different here, e.g. data.shards=… or trainer.accelerator=cpu", metavar=_KEYS),
    ] = None,
    step: Annotated[int | None, typer.Option("--step", help="Which; by default the newest that was noted.")] = None,
    retrain: Annotated[int, typer.Option("--retrain", help="Steps that may be trained anew to get there.")] = 200,
    gradients: Annotated[int, typer.Option("--gradients", help="Samples whose gradient is computed.")] = 256,
    worst: Annotated[int, typer.Option("--worst", help="Samples that are shown in pictures.")] = 4,
    processes: Annotated[int | None, typer.Option("--processes", help="How many shared the step.")] = None,
) -> None:
    """Compute a step of a training once more, and say which samples are to blame.

    Steps that were left out or stood out are noted in the run; any other one can be named too.

    Example: robustclip replay runs/fare --step 1200
    """
    from launch.replay import run_replay

    numbers = {"step": step, "retrain": retrain, "gradients": gradients, "worst": worst, "processes": processes}
    run_replay(run, overrides or [], numbers)


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
