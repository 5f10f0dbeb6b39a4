"""What a robustification will cost, told before it starts."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from launch.robustify.request import Request
from launch.robustify.tuned import recipe_text

if TYPE_CHECKING:
    from launch.forecast.plan import Forecast

_SECONDS = 1e12  # operations that any CPU does in seconds


def forecast_of(request: Request) -> Forecast:
    """The forecast of the training, on the devices that are here; measured where a few steps take seconds.

    Raises:
        ConfigError: a batch that the devices cannot share.
        ValueError: the model cannot be built.
    """
    import torch

    from launch.forecast.plan import Rates, forecast

    trainer = request.finetune.trainer
    count = torch.cuda.device_count() if trainer.accelerator != "cpu" else 0
    words = [f"devices={max(1, count)}"] if trainer.devices == "auto" else []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{request.name}.yaml"
        file.write_text(recipe_text(request.tuned, cost="not known yet"), encoding="utf-8")
        found = forecast(str(file), words, Rates(mfu=0.4))
        if count or found.work.flops * found.share < _SECONDS:
            found = replace(found, hours=forecast(str(file), words, Rates(measure=True)).hours, by_peak=False)
    return found


def show_forecast(found: Forecast) -> None:
    """Print the forecast."""
    from data.terminal import terminal
    from launch.forecast.page import memory_table, numbers

    console = terminal()
    console.print(numbers(found))
    if not any("CPU" in words for words, _ in found.hours):
        console.print(memory_table(found))
    console.print("[dim]two scorecards come on top: robustclip scorecard says what its budgets cost[/dim]")


def cost_in_words(found: Forecast) -> str:
    """``1e+19 FLOPs``, for a recipe's comment."""
    return f"{found.samples * found.work.flops:.0e} FLOPs, {found.samples:,} images".replace("e+", "e")


def agreed(*, yes: bool) -> bool:
    """Whether the user wants to go on; nobody is asked where nobody could answer."""
    if yes or not sys.stdin.isatty():
        return True
    import typer

    return typer.confirm("go on?", default=True)
