"""Rows of what a task measures beside right and wrong: a mean over the images, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from eval.metrics import Z95, wilson
from eval.outcomes import Cell, Outcomes
from eval.results import WORST, Result
from eval.separation import separation_rows
from eval.stats import Estimate

if TYPE_CHECKING:
    from eval.rows import Rows

HARMFUL = (
    *("false_negative", "false_positive", "evaded", "false_alarm", "similarity_wanted"),
    *("entered", "displaced", "target_at_"),
)
"""Metrics, or how their names begin, of which more is worse for who defends."""


def measured_rows(rows: Rows, outcomes: Outcomes) -> list[Result]:
    """The mean of every cell and metric, and for each defence that of every image's worst number at the plan's eps.

    The worst is the least, unless the metric is one of ``HARMFUL``.  What a filter's likeness tells apart follows.
    """
    found = []
    for name in dict.fromkeys(cell.defense for cell in outcomes.measures):
        cells = [cell for cell in outcomes.measures if cell.defense == name]
        for cell in cells:
            found += [_row(rows, cell, metric, numbers) for metric, numbers in outcomes.measures[cell].items()]
        attacked = [cell for cell in rows.attacks(outcomes, name) if cell in outcomes.measures]
        if attacked:
            worst = replace(attacked[0], attack=WORST, view=WORST)
            for metric in outcomes.measures[attacked[0]]:
                together = [outcomes.measures[cell][metric] for cell in (Cell(name), *attacked)]
                lowest = [_worst(metric, numbers) for numbers in zip(*together, strict=True)]
                found.append(_row(rows, worst, metric, lowest))
    return [row for row in found if row.n] + separation_rows(rows, outcomes)


def mean_of(numbers: Sequence[float]) -> Estimate:
    """The mean of numbers in [0, 1] with its 95 % interval: Wilson's for shares, the normal one, cut, for others."""
    values = np.asarray(numbers, dtype=np.float64)
    if len(values) == 0:
        return Estimate(0.0, 0.0, 1.0)
    mean = float(values.mean())
    if np.isin(values, (0.0, 1.0)).all():
        return Estimate(mean, *wilson(float(values.sum()), len(values)))
    half = Z95 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 1.0
    return Estimate(mean, max(0.0, mean - half), min(1.0, mean + half))


def _worst(metric: str, numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    if not known:
        return None
    return max(known) if metric.startswith(HARMFUL) else min(known)


def _row(rows: Rows, cell: Cell, metric: str, numbers: Sequence[float | None]) -> Result:
    known = [number for number in numbers if number is not None]
    return rows.row(cell, metric, mean_of(known), len(known))
