"""``robustclip plan``: what a training will cost, and a rehearsal of its processes."""

from __future__ import annotations

from collections.abc import Sequence

from launch.forecast.page import show
from launch.forecast.plan import Rates, forecast
from launch.forecast.rehearsal import rehearse


def run_plan(recipe: str, words: Sequence[str], rates: Rates, *, rehearsal: bool = True) -> None:
    """Print the forecast of a recipe.

    Raises:
        ConfigError: every fault of the recipe and the numbers.
        ValueError: the model cannot be built.
    """
    found = forecast(recipe, words, rates)
    proven = rehearse(found.config, found.nodes * found.devices, found.way) if rehearsal else []
    show(found, proven)
