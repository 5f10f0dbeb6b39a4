"""A gate compares a score with a threshold, and both the threshold and its side can be set on a tuning split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from modules.choices import check_choice

Direction = Literal["below", "above"]


@dataclass(frozen=True)
class GateCalibration:
    """How a gate was set.

    Attributes:
        tau: the threshold.
        direction: the side of it on which the gate opens.
        auc: area under the ROC curve of the score as a detector of attacked images, on the chosen side's sign.
        clean: [N] scores of clean images.
        attacked: [N] scores of attacked images.
        reads: what the score is, in words.
    """

    tau: float
    direction: Direction
    auc: float
    clean: Tensor
    attacked: Tensor
    reads: str = "score"

    def __post_init__(self) -> None:
        check_choice("direction", self.direction, Direction)


def area_under_roc(low: Tensor, high: Tensor) -> float:
    """Probability that a value of ``high`` [M] exceeds one of ``low`` [N], ties half (Mann-Whitney)."""
    ordered = low.sort().values
    below = torch.searchsorted(ordered, high)
    tied = torch.searchsorted(ordered, high, right=True) - below
    pairs = len(low) * len(high)
    return float(below.sum()) / pairs + 0.5 * (float(tied.sum()) / pairs)


def best_cut(clean: Tensor, attacked: Tensor, direction: Direction) -> float:
    """The threshold of the largest balanced accuracy, the lowest of several; between two scores or beside them all.

    Args:
        clean: [N] scores.
        attacked: [M] scores.
        direction: the side that counts as attacked.
    """
    check_choice("direction", direction, Direction)
    values = torch.cat([clean, attacked]).unique()
    cuts = torch.cat([values[:1] - 1e-6, (values[1:] + values[:-1]) / 2, values[-1:] + 1e-6])
    sign = 1 if direction == "above" else -1
    caught = torch.stack([(sign * (attacked - cut) > 0).double().mean() for cut in cuts])
    alarms = torch.stack([(sign * (clean - cut) > 0).double().mean() for cut in cuts])
    return float(cuts[(caught - alarms).argmax()])


def cut_at(fpr: float, clean: Tensor, direction: Direction = "above") -> float | None:
    """The threshold beyond which a share ``fpr`` of fresh clean images lies, on average over tuning splits at most.

    An order statistic, as in split conformal prediction: of N + 1 exchangeable images the last is as likely as any to
    be among the extreme ones.  None where N is too small to promise that (``images_needed``).

    Args:
        fpr: false-positive rate.
        clean: [N] scores of clean images.
        direction: the side that counts as attacked.
    """
    check_choice("direction", direction, Direction)
    rank = math.ceil((1 - fpr) * (len(clean) + 1) - 1e-9)
    if rank > len(clean):
        return None
    sign = 1 if direction == "above" else -1
    return sign * float((sign * clean.double()).sort().values[rank - 1])


def images_needed(fpr: float) -> int:
    """Clean images from which a threshold at a false-positive rate can be read."""
    return math.ceil(1 / fpr - 1e-9) - 1
