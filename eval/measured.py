"""What tasks measure beside right and wrong, clean and in the worst case, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eval.cells import ORIGINAL
from eval.detectors import without_detection
from eval.measures import HARMFUL
from eval.results import WORST, Result
from eval.tables import CLEAN, ROBUST, final_steps, percent, plain, threat_name

if TYPE_CHECKING:
    from rich.table import Table

WORDS = {
    "average_precision": "average precision",
    "average_precision_medium": "average precision, Medium",
    "average_precision_hard": "average precision, Hard",
    "false_negative": "false negatives",
    "false_positive": "false positives",
    "evaded": "slipped through",
    "false_alarm": "kept out in vain",
    "entered": "queries with a poisoned picture found",
    "displaced": "first places taken by poisoned pictures",
    "ahead": "gallery ahead of the best poisoned picture",
    "similarity_unwanted": "cosine of the unwanted to the reference",
    "similarity_wanted": "cosine of the wanted to the reference",
    "filter_auc": "area under the ROC curve of the filter",
    "soft_accuracy": "agreement with people",
}


@dataclass(frozen=True)
class Measured:
    """One metric of one defence, at the encoder's last step.

    Attributes:
        where: task, data set and threat.
        name: of encoder and defence.
        metric: in words.
        clean: without an attack.
        original: the worst of the attacks that follow the encoder before its fine-tuning; None where nobody tried.
        worst: of every image the worst over all attacks; None where nothing was attacked.
    """

    where: str
    name: str
    metric: str
    clean: Result
    original: Result | None
    worst: Result | None


def measured(rows: Sequence[Result]) -> list[Measured]:
    """The metrics that tasks have beside accuracy, a defence's together, otherwise in the order of the rows."""
    steps, found = final_steps(rows), []
    last = [r for r in without_detection(rows) if r.step == steps[r.task, r.dataset, r.encoder]]
    told = [r for r in last if not r.metric.startswith((CLEAN, ROBUST))]
    for clean in (r for r in told if r.attack == "none"):
        attacked = [r for r in told if _place(r) == _place(clean) and r.attack != "none"]
        for worst in [r for r in attacked if r.attack == WORST] or [None]:
            within = f" · {threat_name(worst.norm, worst.eps)}" if worst else ""
            past = [r for r in attacked if worst and r.view == ORIGINAL and (r.norm, r.eps) == (worst.norm, worst.eps)]
            found.append(
                Measured(
                    f"{clean.task} · {clean.dataset}{within}",
                    clean.encoder if clean.defense == "none" else f"{clean.encoder} + {clean.defense}",
                    WORDS.get(clean.metric, clean.metric.replace("_", " ")),
                    clean,
                    (max if clean.metric.startswith(HARMFUL) else min)(past, key=lambda r: r.value, default=None),
                    worst,
                )
            )
    order = list(dict.fromkeys((one.where, one.name) for one in found))
    return sorted(found, key=lambda one: order.index((one.where, one.name)))


def _place(row: Result) -> tuple[str, ...]:
    return row.task, row.dataset, row.encoder, row.defense, row.metric


def measured_table(rows: Sequence[Result]) -> Table | None:
    """The same for the terminal; None where there is nothing."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    found = measured(rows)
    if not found:
        return None
    table = Table(title="measured beside accuracy, in %, 95 % interval", box=box.SIMPLE_HEAD)
    for head in ("encoder", "measure"):
        table.add_column(head)
    past = any(one.original for one in found)
    for head in ("clean", *(["on the original"] if past else []), "worst"):
        table.add_column(head, justify="right")
    for place in dict.fromkeys(one.where for one in found):
        table.add_row(Text(plain(place), style="bold"))
        for one in (one for one in found if one.where == place):
            numbers = (one.clean, *([one.original] if past else []), one.worst)
            table.add_row(Text(plain(one.name)), Text(plain(one.metric)), *map(_cell, numbers))
    return table


def _cell(row: Result | None) -> str:
    return "–" if row is None else f"{percent(row.value)}\n{percent(row.low)}–{percent(row.high)}"
