"""What a program can check to see whether a robust number can be believed; every doubt is a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from data.batches import ImageBatch
from eval.card import Bracket, Curve, Doubt, Health
from eval.checks.answers import answer_doubts, comparison_doubts, randomness_doubts
from eval.checks.curves import bracket_doubts, curve_doubts
from eval.checks.gradients import gradient_doubts, health_doubts, size_doubts
from eval.checks.memory import memory_doubts
from eval.checks.numbers import outcome_doubts
from eval.checks.points import point_doubts
from eval.checks.probed import Probed
from eval.health import first_images
from eval.judge import Judge
from eval.outcomes import Outcomes
from eval.rows import Rows
from modules.encoders.base import frozen

__all__ = ["asked_before", "number_doubts", "probe_doubts"]

IMAGES = 32  # enough to tell a leak of labels from chance


def asked_before(judge: Judge, name: str, batch: ImageBatch) -> Tensor:
    """[B, K] a defense's first answers about the first images of a batch, for ``probe_doubts``.

    A copy is asked, so that the defense is judged as it was handed in; one that cannot be copied is asked itself.
    """
    probed = Probed(judge, name, first_images(batch, judge.defenses[name], IMAGES))
    with frozen(judge.defenses[name]):
        copy = judge.rechecks.fresh(name)
        answers = probed.logits(encoder=copy)
        if copy is not None:
            judge.forget(copy)
        return answers


def probe_doubts(
    judge: Judge,
    name: str,
    batch: ImageBatch,
    health: Sequence[Health],
    *,
    before: Tensor | None = None,
    unchecked: list[str] | None = None,
) -> list[Doubt]:
    """Doubts about a defence from asking it a few dozen questions, and one short attack.

    Args:
        judge: who holds the defence.
        name: of the defence.
        batch: images it is asked about; the first 32 are used.
        health: of its gradients (``eval.health.measure``).
        before: its answers before it was evaluated (``asked_before``); None asks now.
        unchecked: told of checks that could not be made, a sentence each.

    Raises:
        ValueError: the defence failed on the images themselves, in one line that names it.
    """
    defense = judge.defenses[name]
    unchecked = [] if unchecked is None else unchecked
    probed = Probed(judge, name, first_images(batch, defense, IMAGES), unchecked)
    with frozen(defense):
        before = probed.logits() if before is None else before
        doubts = [*randomness_doubts(probed), *answer_doubts(probed)]
        if any(doubt.name == "hidden_randomness" for doubt in doubts):
            unchecked.append("Whatever compares two answers: the same question gets two, because of hidden randomness.")
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
    outcomes: Outcomes,
    rows: Rows,
    name: str,
    curves: Sequence[Curve] = (),
    bracket: Bracket | None = None,
    unchecked: list[str] | None = None,
) -> list[Doubt]:
    """Doubts about a defence from the numbers alone: those that an honest defence cannot, or hardly ever, have.

    Args:
        outcomes: of all images.
        rows: who writes their rows.
        name: of the defence.
        curves: of this defence.
        bracket: its certificate beside its attacks.
        unchecked: told of checks that could not be made, a sentence each.
    """
    unchecked = [] if unchecked is None else unchecked
    return [*outcome_doubts(outcomes, rows, name), *curve_doubts(curves, unchecked), *bracket_doubts(bracket)]
