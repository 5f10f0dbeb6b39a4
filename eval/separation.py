"""Rows of how well a likeness tells what is to be filtered out from what is not: the area under the ROC curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from eval.outcomes import Cell, Outcomes
from eval.results import WORST, Result
from eval.roc import separation

if TYPE_CHECKING:
    from eval.rows import Rows

AUC = "filter_auc"
UNWANTED, WANTED = "similarity_unwanted", "similarity_wanted"


def separation_rows(rows: Rows, outcomes: Outcomes) -> list[Result]:
    """The area of every cell, of unwanted images as they were attacked against wanted ones as they are.

    The worst case takes every unwanted image's least likeness at the plan's eps.  None where a side has no image.
    """
    found = []
    for name in dict.fromkeys(cell.defense for cell, said in outcomes.measures.items() if UNWANTED in said):
        wanted = _known(outcomes, Cell(name), WANTED)
        for cell in (cell for cell in outcomes.measures if cell.defense == name):
            found += _row(rows, cell, _known(outcomes, cell, UNWANTED), wanted)
        attacked = [cell for cell in rows.attacks(outcomes, name) if cell in outcomes.measures]
        if attacked:
            sides = [_known(outcomes, cell, UNWANTED) for cell in (Cell(name), *attacked)]
            lowest = [min(scores) for scores in zip(*sides, strict=True)]
            found += _row(rows, replace(attacked[0], attack=WORST, view=WORST), lowest, wanted)
    return found


def _row(rows: Rows, cell: Cell, unwanted: Sequence[float], wanted: Sequence[float]) -> list[Result]:
    if not unwanted or not wanted:
        return []
    return [rows.row(cell, AUC, separation(wanted, unwanted), len(unwanted) + len(wanted))]


def _known(outcomes: Outcomes, cell: Cell, metric: str) -> list[float]:
    return [number for number in outcomes.measures[cell][metric] if number is not None]
