"""The perceptual distance as a metric of torchmetrics: a mean over all batches and processes."""

from __future__ import annotations

from typing import Any

import torch
import torchmetrics
from torch import Tensor

from modules.encoders.base import ImageEncoder
from modules.perceptual.metric import PerceptualMetric


class MeanPerceptualDistance(torchmetrics.Metric):
    """Mean of ``PerceptualMetric`` over pairs of images; every pair counts once, however batches were cut::

        metric = MeanPerceptualDistance(load_clip("tiny").image)
        metric.update(x, y)  # as often as there are batches
        metric.compute()     # over all processes

    Args:
        encoder: pixels to embeddings; an ``Ensemble`` too.  It is frozen.
        settings: as torchmetrics takes them.
    """

    is_differentiable = True
    higher_is_better = False
    full_state_update = False

    total: Tensor
    pairs: Tensor

    def __init__(self, encoder: ImageEncoder, /, **settings: Any) -> None:
        super().__init__(**settings)
        self.metric = PerceptualMetric(encoder.freeze())
        self.add_state("total", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("pairs", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, a: Tensor, b: Tensor) -> None:
        """Take in the pairs a and b, each [B, 3, H, W] in [0, 1].

        Raises:
            ValueError: as ``PerceptualMetric``.
        """
        distances = self.metric(a, b)
        self.total = self.total + distances.double().sum()
        self.pairs = self.pairs + len(distances)

    def compute(self) -> Tensor:
        """The mean distance, a scalar.

        Raises:
            ValueError: there was no pair yet.
        """
        if int(self.pairs) == 0:
            raise ValueError("there is no mean distance of no pairs; update the metric first")
        return (self.total / self.pairs).float()
