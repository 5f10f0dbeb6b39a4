"""What a judge lets the report show of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from data.batches import ImageBatch
from eval.answers import SCORE_DRAW
from eval.examples import Example, take_examples
from eval.outcomes import Cell

if TYPE_CHECKING:
    from eval.judge import Judge


def shown(judge: Judge, batch: ImageBatch, adversarial: Mapping[Cell, Tensor], count: int) -> list[Example]:
    """Examples of each defence: its first images under the view that hurts most, and what they find, if anything.

    Args:
        judge: whose defences they are.
        batch: images.
        adversarial: per cell, at least ``count`` of them attacked.
        count: images to show.
    """
    few = batch.select(slice(0, count))
    return take_examples(
        few,
        {cell: x[: len(few)] for cell, x in adversarial.items() if cell.eps == judge.plan.threat.eps},
        judge.defenses,
        lambda defense, x: judge.logits(defense, few, x).argmax(dim=1),
        lambda: judge.named(few, SCORE_DRAW),
        partial(Example, encoder=judge.subject.encoder, norm=judge.plan.threat.norm, classes=judge.task.classes),
        ranked=lambda defense, x: judge.ranking(defense, few, x),
        hidden=judge.task.hidden(few),
    )
