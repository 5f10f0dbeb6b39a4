"""What tasks measure beside right and wrong, clean and in the worst case, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eval.detectors import without_detection
from eval.results import WORST, Result
from eval.tables import CLEAN, ROBUST, final_steps, percent, plain, threat_name

if TYPE_CHECKING:
    from rich.table import Table

WORDS = {
    "average_precision": "average precision",
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
    """One metric of one defence, at the encoder's last step; ``worst`` is None where nothing was attacked."""

    where: str
    name: str
    metric: str
    clean: Result
    worst: Result | None


def measured(rows: Sequence[Result]) -> list[Measured]:
    """The metrics that tasks have beside accuracy, in the order of the rows."""
    steps, found = final_steps(rows), []
    last = [r for r in without_detection(rows) if r.step == steps[r.task, r.dataset, r.encoder]]
    told = [r for r in last if not r.metric.startswith((CLEAN, ROBUST))]
    for clean in (r for r in told if r.attack == "none"):
        place = (clean.task, clean.dataset, clean.encoder, clean.defense, clean.metric)
        same = [r for r in told if (r.task, r.dataset, r.encoder, r.defense, r.metric) == place and r.attack == WORST]
        for worst in same or [None]:
            within = f" · {threat_name(worst.norm, worst.eps)}" if worst else ""
            name = clean.encoder if clean.defense == "none" else f"{clean.encoder} + {clean.defense}"
            words = WORDS.get(clean.metric, clean.metric.replace("_", " "))
            found.append(Measured(f"{clean.task} · {clean.dataset}{within}", name, words, clean, worst))
    return found


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
    for head in ("clean", "worst"):
        table.add_column(head, justify="right")
    for place in dict.fromkeys(one.where for one in found):
        table.add_row(Text(plain(place), style="bold"))
        for one in (one for one in found if one.where == place):
            table.add_row(Text(plain(one.name)), Text(plain(one.metric)), _cell(one.clean), _cell(one.worst))
    return table


def _cell(row: Result | None) -> str:
    return "–" if row is None else f"{percent(row.value)}\n{percent(row.low)}–{percent(row.high)}"
