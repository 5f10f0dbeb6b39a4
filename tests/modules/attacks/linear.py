"""A linear classifier: how far every image is from being misclassified is known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.perturb.threat import Norm


class Linear:
    """Random hyperplanes through the middle of the box, and six images far from them and from the box's walls.

    Args:
        classes: with two, the misclassified points are a half-space and no attack can run into a wrong corner.
    """

    def __init__(self, classes: int) -> None:
        generator = torch.Generator().manual_seed(classes)
        self.classes = classes
        self.weight = torch.randn(classes, 3 * 4 * 4, generator=generator)
        x = 0.2 + 0.6 * torch.rand(200, 3, 4, 4, generator=generator)
        top = self(x).topk(2, dim=1).values
        self.x = x[(top[:, 0] - top[:, 1]).argsort(descending=True)[10:16]]
        self.y = self(self.x).argmax(dim=1)

    def __call__(self, x: Tensor) -> Tensor:
        return (x - 0.5).flatten(1) @ self.weight.T

    def nearest(self, norm: Norm) -> Tensor:
        """[B] distance from the nearest other class: gap of the logits over the dual norm of the weights' gap."""
        logits = self(self.x)
        gap = logits.gather(1, self.y[:, None]) - logits
        slope = (self.weight[self.y][:, None] - self.weight).norm(p=1 if norm == "linf" else 2, dim=2)
        return (gap / slope.clamp_min(1e-12)).scatter(1, self.y[:, None], torch.inf).amin(dim=1)

    def fooled(self, x: Tensor) -> Tensor:
        """[B] bool, whether images in the places of ``x`` are misclassified."""
        return self(x).argmax(dim=1) != self.y
