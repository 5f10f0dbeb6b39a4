"""The command that does all of it for one model."""

from __future__ import annotations

from typing import Annotated

import typer

from launch.commands.words import Out, typed


def robustify(
    model: Annotated[str, typer.Argument(help="The base: a model of open_clip or a hub, or tiny.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="The tag of its weights, then data=SHARDS test=FOLDER eps=4 and key=value; scorecard.key=value.",
            metavar="[PRETRAINED] [KEY=VALUE]...",
        ),
    ] = None,
    out: Out = None,
    quick: Annotated[bool, typer.Option("--quick", help="A trial: few steps, few images.")] = False,
    budget: Annotated[str | None, typer.Option("--budget", help="quick, standard or thorough.")] = None,
    licence: Annotated[str, typer.Option("--licence", help="Of the weights, for the card.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask after the forecast.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show recipe and forecast, start nothing.")] = False,
) -> None:
    """Make a CLIP robust: recipe, forecast, fine-tuning, export, scorecards of base and result, one page.

    The shipped recipe that is nearest is used, or FARE's defaults.  Started again, it goes on where it stopped.

    Example: robustclip robustify ViT-B-32 laion2b_s34b_b79k data='/data/train-{0000..1023}.tar' test=/data/val eps=4
    """
    from launch.robustify.command import Wishes, run_robustify

    wishes = Wishes(out, quick, budget, licence, yes, dry_run)
    run_robustify(model, words or [], wishes, command=typed())
