"""Doubts about what a defense remembers: the same questions again, in other ways, and of an untouched copy."""

from __future__ import annotations

import torch
from torch import Tensor

from eval.card import Doubt
from eval.checks.answers import MOVED, moved_by_others
from eval.checks.probed import Probed, moved
from eval.rechecks import AFRESH

ONE_BY_ONE = 8  # images


def memory_doubts(probed: Probed, before: Tensor) -> list[Doubt]:
    """Answers that changed since they were asked for first; before: [B, K].

    The images are shown again as they were, backward, one by one, and to an untouched copy of the defense.
    """
    judge, name = probed.judge, probed.name
    uncopied = judge.rechecks.uncopied.get(name)
    doubts = []
    if uncopied:
        text = (
            f"The defense cannot be copied ({uncopied}), so that nobody can tell whether its answers depend on what it "
            "was asked before."
        )
        doubts.append(Doubt("cannot_copy", "amber", text))
        probed.unchecked.append(
            f"Whether an untouched copy of the defense answers alike: it cannot be copied ({uncopied})."
        )
    elif AFRESH not in judge.rechecks.names:
        probed.unchecked.append("Whether an untouched copy of the defense answers alike: rechecks do not say afresh.")
    for how, change in _again(probed, before):
        if change:
            text = (
                f"After some hundred questions the defense answers otherwise about the same images {how}, by up to "
                f"{change:.2g} standard deviations of the logits: it remembers, and its numbers depend on what was "
                "asked before."
            )
            return [*doubts, Doubt("remembers", "red", text)]
    return doubts


def _again(probed: Probed, before: Tensor) -> list[tuple[str, float]]:
    """Each way of asking again, in words, and by how much the answers moved; 0 for what rounding moves."""
    found = [("shown as before", _exactly(moved(before, probed.logits())))]
    copy = probed.judge.rechecks.fresh(probed.name)
    if copy is not None:
        found.append(
            ("than a copy that was never asked", _exactly(moved(probed.logits(encoder=copy), probed.logits())))
        )
        probed.judge.forget(copy)
    n = len(probed.batch)
    if probed.defense.group > 1 or probed.streamed:
        return found  # images are judged by groups, and move with their neighbors
    backward = list(range(n))[::-1]
    other = probed.about(probed.batch.select(backward)).logits()
    found.append(("in another order", _nearly(moved(before[backward], other))))
    few = range(min(ONE_BY_ONE, n))
    alone = torch.cat([probed.about(probed.batch.select([i])).logits() for i in few])
    return [*found, ("one by one", _nearly(moved(before, torch.cat([alone, before[len(alone) :]]))))]


def _exactly(change: Tensor) -> float:
    most = float(change.max())
    return most if most > MOVED else 0.0


def _nearly(change: Tensor) -> float:
    return float(change.max()) if moved_by_others(change) else 0.0
