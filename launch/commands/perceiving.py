"""Commands about what an encoder finds alike, and what it looks for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Model = Annotated[str | None, typer.Option("--model", help="A model of open_clip or a hub, or tiny.")]
Pretrained = Annotated[str | None, typer.Option("--pretrained", help="Tag of the model's weights.")]
DefenseOption = Annotated[
    str, typer.Option("--defense", help="In front of the encoder: a name, or '{name: ttc, steps: 2}'.")
]


def distance(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Two files or more, of any size.")],
    model: Model = None,
    pretrained: Pretrained = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option("--checkpoint", help="Fine-tuned encoder; several times: an ensemble.")
    ] = None,
    defense: DefenseOption = "",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the distances to a file, or - to print them.")
    ] = None,
) -> None:
    """Say how far apart an encoder sees images: one minus the cosine of their embeddings.

    Example: robustclip distance a.png b.jpg --checkpoint encoder.safetensors
    """
    from launch.distance import Judges, run_distance

    run_distance(images, Judges(model, pretrained, checkpoint or [], defense), json_file)


def invert(
    encoder: Annotated[str, typer.Argument(help="A checkpoint's file, or the name of a model, e.g. tiny.")],
    text: Annotated[list[str] | None, typer.Option("--text", help="What to find an image of; several times.")] = None,
    image: Annotated[list[Path] | None, typer.Option("--image", help="Image whose embedding to find again.")] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="To compare with; the model it was fine-tuned from by default.")
    ] = None,
    pretrained: Pretrained = None,
    template: Annotated[str | None, typer.Option("--template", help="Around a text, e.g. 'a photo of {}'.")] = None,
    defense: DefenseOption = "",
    start: Annotated[str, typer.Option("--start", help="grey, noise, or an image's file.")] = "grey",
    radius: Annotated[
        float | None, typer.Option("--radius", help="How far from the start, Euclidean; 0: anywhere. 10 at 32 pixels.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="Of gradient ascent.")] = 60,
    step_size: Annotated[float | None, typer.Option("--step-size", help="Length of the first step.")] = None,
    variation: Annotated[float, typer.Option("--variation", help="Weight of the total variation.")] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Of every random number.")] = 0,
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures and the page.")] = Path("inversion"),
) -> None:
    """Look for the image that an encoder takes for a text or another image, base and robust side by side.

    Example: robustclip invert runs/fare/export/encoder.safetensors --text three --text seven --out inversion
    """
    from launch.inversion import Against, Wish, run_invert

    wish = Wish(tuple(text or ()), tuple(image or ()), template, start)
    search: dict[str, Any] = {"steps": steps, "variation": variation}
    search |= {"radius": radius or None} if radius is not None else {}
    search |= {"step_size": step_size} if step_size is not None else {}
    run_invert(encoder, wish, search, Against(base, pretrained, defense), seed=seed, out=out)
