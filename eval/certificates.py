"""A lower bound to set beside the attacks' upper bound, where a defence can certify its answers."""

from __future__ import annotations

from math import sqrt

import torch

from configs.schema import CertifyConfig
from eval.answers import SCORE_DRAW
from eval.card import Bracket, Share
from eval.judge import Judge
from eval.outcomes import Outcomes
from eval.rows import Rows
from eval.stats import clopper_pearson
from modules.defenses.smoothing import RandomizedSmoothing


def l2_radius(norm: str, eps: float, dimensions: int) -> float:
    """Radius of the smallest l2 ball that holds the threat's ball: what a certificate has to reach.

    Args:
        norm: ``linf``, ``l2`` or ``l1``.
        eps: radius of the threat, in [0, 1] pixels.
        dimensions: numbers in an image.
    """
    return eps * sqrt(dimensions) if norm == "linf" else eps


@torch.no_grad()
def bracket_of(judge: Judge, name: str, certify: CertifyConfig, outcomes: Outcomes, rows: Rows) -> Bracket | None:
    """Certified and attacked accuracy on the same images; None where the defence has no certificate.

    Args:
        judge: whose defence.
        name: of the defence.
        certify: how many images and looks.
        outcomes: of the attacks, on images of which the certified ones are the first.
        rows: which outcomes count.
    """
    defense = judge.defenses[name]
    if not isinstance(defense, RandomizedSmoothing) or not certify.limit or judge.task.zero_shot is None:
        return None
    count = min(certify.limit, len(outcomes.keys))
    flags: list[bool] = []
    radius = 0.0
    for batch in judge.task.batches(judge.plan.config.batch_size):
        batch = batch.to(judge.device).select(slice(0, count - len(flags)))
        radius = l2_radius(rows.norm, rows.eps, batch.x[0].numel())
        with judge.named(batch, SCORE_DRAW):
            certificate = defense.certify(
                batch.x, judge.task.zero_shot, n0=certify.picks, n=certify.looks, alpha=certify.alpha
            )
        flags += certificate.correct(batch.y, radius).tolist()
        if len(flags) >= count:
            break
    attacked = outcomes.select(range(len(flags))).robust(rows.attacks(outcomes, name))
    return Bracket(radius, _share(flags), _share(attacked))


def _share(flags: list[bool]) -> Share:
    return Share(sum(flags) / len(flags), *clopper_pearson(sum(flags), len(flags)), len(flags))
