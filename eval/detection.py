"""Rows about a gate as a detector: does it tell attacked images from clean ones, and what if it refuses them?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from eval.outcomes import CLEAN, Cell, Outcomes
from eval.results import WORST, Result
from eval.roc import area
from eval.stats import Estimate

if TYPE_CHECKING:
    from eval.rows import Rows

AUC = "detection_auc"
RATE = "detection_rate"  # share of attacked images that the gate flags at its own threshold
FALSE_ALARMS = "detection_false_alarms"  # the same of clean images
AT_FPR = "_at_fpr"  # and at thresholds beyond which so many percent of clean tuning images lie
REFUSING = "_accuracy_with_rejection"


def rate_at(percent: str) -> str:
    """The metric of the detection rate at a false-positive rate."""
    return f"detection_tpr{AT_FPR}{percent}"


def detection_rows(rows: Rows, outcomes: Outcomes) -> list[Result]:
    """Rows about every gate that was scored; none where there is no gate.

    Of clean images: false alarms, at the gate's own threshold and at those of the tuning split, and the accuracy where
    a flagged image counts as wrong.  Of each attack and view, over the images that it changed: the area under the ROC
    curve and detection rates; over all images the robust accuracy with rejection: the clean image is answered, and
    right, and the attacked one is right or flagged.  The worst case is the lowest of each, the last one image by image.
    """
    found = []
    for name in dict.fromkeys(cell.defense for cell in outcomes.scores):
        found += _clean(rows, outcomes, Cell(name))
        cells = [cell for cell in outcomes.scores if cell.defense == name and cell.attack != CLEAN]
        each = {cell: _attacked(rows, outcomes, cell) for cell in cells}
        found += [row for cell in cells for row in each[cell]]
        tried = [cell for cell in cells if cell.eps == rows.eps]
        found += _worst(rows, outcomes, tried, [row for cell in tried for row in each[cell]])
    return found


def _clean(rows: Rows, outcomes: Outcomes, cell: Cell) -> list[Result]:
    scores = _known(outcomes.scores[cell])
    alarms = {FALSE_ALARMS: 0.0}
    alarms |= {f"{FALSE_ALARMS}{AT_FPR}{percent}": cut for percent, cut in _cuts(rows, cell).items()}
    answered = [right and not flagged for right, flagged in zip(_right(outcomes, cell), _flags(scores), strict=True)]
    found = [_share(rows, cell, metric, _flags(scores, cut)) for metric, cut in alarms.items()]
    return [*found, _share(rows, cell, "clean" + REFUSING, answered)]


def _attacked(rows: Rows, outcomes: Outcomes, cell: Cell) -> list[Result]:
    found, scores = [], outcomes.scores[cell]
    changed = _known(scores)
    if changed:
        auc = area(_known(outcomes.scores[Cell(cell.defense)]), scores)
        rates = {RATE: 0.0} | {rate_at(percent): cut for percent, cut in _cuts(rows, cell).items()}
        found = [rows.row(cell, AUC, auc, len(changed))]
        found += [_share(rows, cell, metric, _flags(changed, cut)) for metric, cut in rates.items()]
    return [*found, _share(rows, cell, "robust" + REFUSING, refused_or_right(outcomes, [cell]))]


def _worst(rows: Rows, outcomes: Outcomes, cells: Sequence[Cell], each: Sequence[Result]) -> list[Result]:
    if not cells:
        return []
    lowest = []
    for metric in dict.fromkeys(row.metric for row in each if not row.metric.endswith(REFUSING)):
        worst = min((row for row in each if row.metric == metric), key=lambda row: row.value)
        lowest.append(replace(worst, attack=WORST, view=WORST))
    together = replace(cells[0], attack=WORST, view=WORST)
    return [*lowest, _share(rows, together, "robust" + REFUSING, refused_or_right(outcomes, cells))]


def refused_or_right(outcomes: Outcomes, cells: Sequence[Cell]) -> list[bool]:
    """One flag per image: answered and right clean, and right or flagged in each of ``cells`` (one defence's).

    An image that an attack left as it was is as good as clean there.
    """
    clean = Cell(cells[0].defense)
    flagged = _flags(_known(outcomes.scores[clean]))
    standing = [right and not alarm for right, alarm in zip(_right(outcomes, clean), flagged, strict=True)]
    for cell in cells:
        there = zip(standing, _right(outcomes, cell), outcomes.scores[cell], strict=True)
        standing = [held and (score is None or score > 0 or right) for held, right, score in there]
    return standing


def _right(outcomes: Outcomes, cell: Cell) -> list[bool]:
    """Which images are right in the draw in which the gate was scored, the first."""
    return outcomes.draws[cell][0]


def _cuts(rows: Rows, cell: Cell) -> dict[str, float]:
    return rows.cuts.get(cell.defense, {})


def _flags(scores: Sequence[float], cut: float = 0.0) -> list[bool]:
    return [score > cut for score in scores]


def _known(scores: Sequence[float | None]) -> list[float]:
    return [score for score in scores if score is not None]


def _share(rows: Rows, cell: Cell, metric: str, flags: Sequence[bool]) -> Result:
    count = len(flags)
    return rows.row(cell, metric, Estimate(sum(flags) / max(count, 1), *rows.interval(sum(flags), count)), count)
