"""What attackers ascend: one value per image, never a batch mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor], Tensor]
"""Pixels [B, 3, H, W] in [0, 1] -> one value per image [B]."""

LabelLossName = Literal["ce", "dlr", "margin"]


def at_least_single(z: Tensor) -> Tensor:
    """z in single precision where it is in half: sums of squares and differences of logits need the digits."""
    return z.float() if z.dtype in (torch.bfloat16, torch.float16) else z


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """[B] cross-entropy of logits [B, K] and labels y [B]."""
    return F.cross_entropy(at_least_single(logits), y, reduction="none")


def true_and_best_other(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """[B] logit of the label and [B] largest logit of any other class."""
    logits = at_least_single(logits)
    true = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], float("-inf"))
    return true, others.amax(dim=1)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """[B] largest other logit minus the label's: positive where the image is misclassified (CW)."""
    true, other = true_and_best_other(logits, y)
    return other - true


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """[B] difference of logits ratio (arXiv:2003.01690, eq. 6), invariant to shift and scale.

    Raises:
        ValueError: fewer than 3 classes.
    """
    if logits.shape[1] < 3:
        raise ValueError(f"the DLR loss needs at least 3 classes, not {logits.shape[1]}; use loss 'ce'")
    logits = at_least_single(logits)
    true, other = true_and_best_other(logits, y)
    ordered = logits.sort(dim=1, descending=True).values
    return -(true - other) / (ordered[:, 0] - ordered[:, 2] + 1e-12)


def targeted_dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """[B] targeted DLR (arXiv:2003.01690, eq. 7): grows as ``target`` [B] overtakes the label.

    Raises:
        ValueError: fewer than 4 classes.
    """
    if logits.shape[1] < 4:
        raise ValueError(f"the targeted DLR loss needs at least 4 classes, not {logits.shape[1]}; use loss 'ce'")
    logits = at_least_single(logits)
    true = logits.gather(1, y[:, None]).squeeze(1)
    aimed = logits.gather(1, target[:, None]).squeeze(1)
    ordered = logits.sort(dim=1, descending=True).values
    spread = ordered[:, 0] - 0.5 * (ordered[:, 2] + ordered[:, 3])
    return -(true - aimed) / (spread + 1e-12)


def squared_l2(z: Tensor, z0: Tensor) -> Tensor:
    """[B] squared Euclidean distance of embeddings [B, D], summed over D and not divided by it (FARE)."""
    return (at_least_single(z) - at_least_single(z0)).square().sum(dim=-1)


def cosine_distance(z: Tensor, z0: Tensor) -> Tensor:
    """[B] one minus the cosine of embeddings [B, D]."""
    return 1 - F.cosine_similarity(at_least_single(z), at_least_single(z0), dim=-1)


LABEL_LOSSES: dict[LabelLossName, Callable[[Tensor, Tensor], Tensor]] = {
    "ce": cross_entropy,
    "dlr": dlr,
    "margin": margin,
}
