"""What a program can check to see whether a robust number can be believed; every doubt is a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from data.batches import ImageBatch
from eval.card import Bracket, Curve, Doubt, Health
from eval.checks.answers import answer_doubts, comparison_doubts, memory_doubts, randomness_doubts
from eval.checks.curves import bracket_doubts, curve_doubts
from eval.checks.gradients import gradient_doubts, health_doubts, size_doubts
from eval.checks.numbers import outcome_doubts
from eval.checks.points import point_doubts
from eval.checks.probed import Probed
from eval.health import first_images
from eval.judge import Judge
from eval.outcomes import Outcomes
from eval.rows import Rows
from modules.encoders.base import frozen

__all__ = ["number_doubts", "probe_doubts"]

IMAGES = 32  # enough to tell a leak of labels from chance


def probe_doubts(judge: Judge, name: str, batch: ImageBatch, health: Sequence[Health]) -> list[Doubt]:
    """Doubts about a defence from asking it a few dozen questions, and one short attack.

    Args:
        judge: who holds the defence.
        name: of the defence.
        batch: images it is asked about; the first 32 are used.
        health: of its gradients (``eval.health.measure``).

    Raises:
        ValueError: the defence failed on the images themselves, in one line that names it.
    """
    defense = judge.defenses[name]
    probed = Probed(judge, name, first_images(batch, defense, IMAGES))
    with frozen(defense):
        before = probed.logits()
        doubts = [*randomness_doubts(probed), *answer_doubts(probed)]
        if any(doubt.name == "hidden_randomness" for doubt in doubts):
            return doubts + [doubt for seen in health for doubt in size_doubts(seen)]
        return [
            *doubts,
            *comparison_doubts(probed, health),
            *health_doubts(probed, health),
            *gradient_doubts(probed),
            *point_doubts(probed),
            *memory_doubts(probed, before),
        ]


def number_doubts(
    outcomes: Outcomes, rows: Rows, name: str, curves: Sequence[Curve] = (), bracket: Bracket | None = None
) -> list[Doubt]:
    """Doubts about a defence from the numbers alone: those that an honest defence cannot, or hardly ever, have.

    Args:
        outcomes: of all images.
        rows: who writes their rows.
        name: of the defence.
        curves: of this defence.
        bracket: its certificate beside its attacks.
    """
    return [*outcome_doubts(outcomes, rows, name), *curve_doubts(curves, rows.norm), *bracket_doubts(bracket)]
