"""From per-sample outcomes to rows: clean, each attack and view, and the worst case over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from eval.metrics import wilson
from eval.outcomes import CLEAN, Cell, Outcomes
from eval.plan import Plan
from eval.results import WORST, Result
from eval.tasks.classification import ClassificationTask
from modules.defenses.base import Defense


@dataclass(frozen=True)
class Subject:
    """Which weights are judged.

    Attributes:
        encoder: display name.
        checkpoint: file or name they came from.
        step: training step.
        fingerprint: hash of the weights.
    """

    encoder: str
    checkpoint: str = ""
    step: int = 0
    fingerprint: str = ""


@dataclass(frozen=True)
class Rows:
    """Writes the rows of one subject on one data set.

    Attributes:
        plan: what was done.
        task: on which data.
        subject: on whose weights.
        defenses: by name.
    """

    plan: Plan
    task: ClassificationTask
    subject: Subject
    defenses: Mapping[str, Defense]

    def of(self, outcomes: Outcomes, cells: Sequence[Cell]) -> list[Result]:
        """The rows of the cells: one for each, and for each defence the per-sample worst case at the threat's eps."""
        rows = []
        for name in self.defenses:
            own = [cell for cell in cells if cell.defense == name]
            attacked = [c for c in own if c.attack != CLEAN and c.eps == self.plan.threat.eps]
            rows += [self._row(outcomes, cell, [cell]) for cell in own]
            if attacked:
                rows.append(self._row(outcomes, replace(attacked[0], attack=WORST, view=WORST), attacked))
        return rows

    def _row(self, outcomes: Outcomes, cell: Cell, cells: list[Cell]) -> Result:
        clean = cell.attack == CLEAN
        robust = outcomes.robust(cells)
        low, high = wilson(sum(robust), len(robust))
        return Result(
            task=self.task.name,
            dataset=self.task.dataset,
            n=len(robust),
            checkpoint=self.subject.checkpoint,
            step=self.subject.step,
            encoder=self.subject.encoder,
            defense=cell.defense,
            attack=cell.attack,
            view=cell.view,
            norm="none" if clean else self.plan.threat.norm,
            eps=cell.eps,
            metric="clean_accuracy" if clean else "robust_accuracy",
            value=sum(robust) / max(len(robust), 1),
            low=low,
            high=high,
            seconds=round(sum(outcomes.seconds[c] for c in cells), 3),
            seed=self.plan.config.seed,
            config=self.plan.hash,
            artefact=self.defenses[cell.defense].artefact,
        )
