"""``robustclip model``: weights of others, and of unfinished trainings, become files of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.commands.words import CommandGroup

model_app = CommandGroup(no_args_is_help=True, help="Weights of others, and of trainings, become files of ours.")


@model_app.command("convert-prior")
def convert_prior(
    source: Annotated[Path, typer.Argument(metavar="IN", help="File of DALLE2-pytorch's prior trainer, or flat.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="New file, or a folder for prior.safetensors.")],
    check: Annotated[
        Path | None,
        typer.Option("--check", help="Folder of embeddings of the prior's encoder; 256 pairs try the prior."),
    ] = None,
    unchecked: Annotated[bool, typer.Option("--unchecked", help="Do without the check; the file says so.")] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="The prior_config.json that lies beside the weights."),
    ] = None,
    prediction: Annotated[
        str | None,
        typer.Option("--prediction", help="What the network predicts: x0, eps or v; the check can find out."),
    ] = None,
    source_version: Annotated[
        str | None,
        typer.Option("--source-version", help="Release of dalle2-pytorch, where the file does not say."),
    ] = None,
    attention: Annotated[
        str | None,
        typer.Option("--attention", help="cosine or dot, against what the release computed."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="ema or model; ema where there is one."),
    ] = None,
) -> None:
    """Convert a released DiffusionPrior of DALLE2-pytorch 0.3 to 1.15.6; nothing in its file is run.

    The release decides what the weights mean: attention and norms changed under the same names.  A check on pairs of
    image and text refuses what does not predict images.

    Example: robustclip model convert-prior best.pth prior.safetensors --config prior_config.json --check embeddings
    """
    from launch.conversion import Wishes, run_conversion

    wishes = Wishes(check, unchecked, config, prediction, source_version, attention, weights)
    run_conversion(source, target, wishes)


@model_app.command("consolidate")
def consolidate(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A training checkpoint, or the folder of a run.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="New file, or a folder.")],
) -> None:
    """Turn a training checkpoint into a plain file of weights: an encoder, or the average of a prior.

    Example: robustclip model consolidate runs/fare/20260101-120000 encoder.safetensors
    """
    from launch.consolidation import consolidate as run_consolidation

    print(run_consolidation(source, target))


@model_app.command("inspect")
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file or folder of weights, anyone's.")],
    as_json: Annotated[bool, typer.Option("--json", help="Everything, shapes too, as JSON.")] = False,
) -> int:
    """Say what a file of weights is, without running anything in it; exit code 2 where it would run code.

    Example: robustclip model inspect fare_eps_4.pt
    """
    from launch.exchange.inspection_page import run_inspection

    return run_inspection(file, as_json=as_json)


@model_app.command("export")
def export(
    source: Annotated[str, typer.Argument(metavar="IN", help="A checkpoint, a model's name, or the folder of a run.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="New file or folder.")],
    to: Annotated[str, typer.Option("--to", help="open-clip, visual-pt, hub, robustbench or clip-benchmark.")],
    model: Annotated[str | None, typer.Option("--model", help="Base of the weights, where they do not say.")] = None,
    pretrained: Annotated[str | None, typer.Option("--pretrained", help="Tag of the base's weights.")] = None,
    image_size: Annotated[int | None, typer.Option("--image-size", help="Where it is not the base's own.")] = None,
    unrelated: Annotated[bool, typer.Option("--unrelated", help="The weights need not be near the base's.")] = False,
    results: Annotated[list[Path] | None, typer.Option("--results", help="Run whose numbers the card shows.")] = None,
    licence: Annotated[str, typer.Option("--licence", help="Of the weights, for the card.")] = "",
) -> None:
    """Write weights or results as others read them: open_clip's folder, LLaVA's tower, a hub folder with its card.

    Example: robustclip model export encoder.safetensors my-clip --to hub --results runs/evaluate/20260101-120000
    """
    from launch.exchange.export import run_export
    from launch.exchange.subject import Wanted

    wanted = Wanted(model, pretrained, image_size, unrelated)
    run_export(source, target, to, wanted=wanted, results=results or [], licence=licence)
