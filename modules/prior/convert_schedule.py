"""Which noise schedule a checkpoint was trained with, told by the tables that it stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import torch
from torch import Tensor

from modules.prior.convert_source import Source
from modules.prior.library_config import LibraryConfig
from modules.prior.schedule import NoiseSchedule, ScheduleKind

_LOSS_WEIGHT = "p2_loss_weight"  # of training alone
# A running mean runs over the constant tables too and rounds at every step; 2e-4 was seen after 200,000 steps.
_TOLERANCES = {"ema": 1e-3, "model": 1e-6, None: 1e-3}


def stored_schedule(
    source: Source, tables: Mapping[str, Tensor], config: LibraryConfig, timesteps: int | None
) -> tuple[NoiseSchedule, float | None]:
    """The computed schedule that is the stored one, and how far they are apart; None where none is stored.

    Args:
        source: for messages, and for how exact its tables must be.
        tables: [T] each, by their last names.
        config: names the kind where there are no tables.
        timesteps: T, where there are no tables.

    Raises:
        ValueError: no known kind fits, or there is nothing to go by.
    """
    compared = {name: table.to(torch.float64) for name, table in tables.items() if name != _LOSS_WEIGHT}
    if not compared:
        if config.schedule is None or timesteps is None:
            raise ValueError(f"{source.path} has no noise schedule; say --config prior_config.json, which names it")
        return NoiseSchedule(timesteps=timesteps, kind=config.schedule), None
    steps = len(next(iter(compared.values())))
    best: tuple[float, NoiseSchedule] | None = None
    for kind in get_args(ScheduleKind):
        try:
            schedule = NoiseSchedule(timesteps=steps, kind=kind)
        except ValueError:
            continue  # too few steps for this kind
        difference = _difference(schedule, compared)
        if best is None or difference < best[0]:
            best = difference, schedule
    tolerance = _TOLERANCES[source.weights]
    if best is None or not best[0] <= tolerance:
        by = "" if best is None else f"; the nearest, {best[1].kind}, is {best[0]:.1g} away"
        raise ValueError(f"{source.path}: its noise schedule is none of {', '.join(get_args(ScheduleKind))}{by}")
    return best[1], best[0]


def _difference(schedule: NoiseSchedule, tables: Mapping[str, Tensor]) -> float:
    """Largest difference of two tables' entries, relative to those above 1."""
    worst = 0.0
    for name, table in tables.items():
        own = getattr(schedule, name).to(torch.float64)
        if own.shape != table.shape:
            return float("inf")
        worst = max(worst, ((own - table).abs() / own.abs().clamp(min=1)).max().item())
    return worst
