"""How one setting of a defence does: what is left of it, what it costs, and why not to believe it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from configs.scorecard import BARE
from configs.tuning import Candidate
from eval.card import Doubt, Share
from eval.checks import number_doubts, probe_doubts
from eval.health import measure
from eval.judge import Judge
from eval.outcomes import Cell, Outcomes
from eval.plan import Plan
from eval.rows import Rows, Subject
from eval.tasks.classification import ClassificationTask
from eval.tuning_record import Score
from modules.counting import flops_of
from modules.encoders.base import ImageEncoder, frozen
from modules.views import is_view

PROBES = 32  # images on which the winner's gradients and answers are examined


def score_of(outcomes: Outcomes, rows: Rows, name: str) -> Score:
    """What is left of a defence, by name, on all images."""
    cells = rows.attacks(outcomes, name)
    past = [cell for cell in cells if is_view(cell.view, "past")]
    draws, n = outcomes.per_draw(cells), len(outcomes.keys)

    def share(right: float) -> Share:
        return Share(right / n, *rows.interval(right, n), n)

    return Score(
        clean=share(_mean(outcomes.per_draw([Cell(name)]))),
        worst=share(sum(outcomes.robust(cells))),
        transfer=share(sum(outcomes.robust(past))) if past else None,
        mean_draw=share(_mean(draws)) if len(draws) > 1 else None,
        met=len(cells),
    )


def _mean(draws: list[list[bool]]) -> float:
    return sum(map(sum, draws)) / len(draws)


def costs_of(encoder: ImageEncoder, plan: Plan, candidates: Sequence[Candidate]) -> dict[str, float]:
    """For each setting the operations of classifying one image, counted, over those of the undefended encoder."""
    task = ClassificationTask.of(plan.tasks[0])
    x = next(task.whole_batches(4)).to(plan.device).x
    task.head.to(x.device)

    def operations(name: str) -> int:
        with torch.no_grad():
            return flops_of(lambda: plan.defend(name, encoder, task).logits(x, task.head))

    with frozen(encoder):
        bare = max(operations(BARE), 1)
        return {candidate.name: operations(candidate.title) / bare for candidate in candidates}


def doubts_about(
    encoder: ImageEncoder, plan: Plan, subject: Subject, name: str, outcomes: Outcomes, rows: Rows
) -> list[Doubt]:
    """Reasons not to believe a defence's worst case, from probing it and from its numbers; red ones first."""
    task = plan.tasks[0]
    with frozen(encoder):
        judge = Judge(encoder, plan, task, subject)
        batch = next(task.whole_batches(PROBES)).to(judge.device)
        found = probe_doubts(judge, name, batch, measure(judge, name, batch)) + number_doubts(outcomes, rows, name)
    unique = {doubt.name: doubt for doubt in sorted(found, key=lambda d: d.severity == "red")}
    return sorted(unique.values(), key=lambda doubt: doubt.severity != "red")
