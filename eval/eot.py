"""How many draws of a defence's noise an attacker must average over: until the gradient stands still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.attacks.base import Classifier
from modules.perturb.ascent import slope
from modules.perturb.losses import margin

FLAT = 0.8  # cosine of two independent estimates, from which one more doubling buys little
MOST = 32


@dataclass(frozen=True)
class Growth:
    """How the estimate of a gradient settled.

    Attributes:
        draws: enough of them, or the most that were tried.
        cosines: for each number of draws, the mean cosine of two independent estimates.
    """

    draws: int
    cosines: dict[int, float]

    def note(self, encoder: str, name: str) -> dict[str, Any]:
        """What the report says about it."""
        tried = ", ".join(f"{value:.2f} with {k}" for k, value in self.cosines.items())
        flat = self.cosines[self.draws] >= FLAT
        end = "" if flat else " It never stood still: the average misses part of what the noise does."
        return {
            "title": f"{encoder}: the noise of {name}",
            "text": (
                f"Attackers average over {self.draws} draws. Cosine of two independent estimates of the gradient: "
                f"{tried}.{end}"
            ),
        }


def grow_draws(classifier: Classifier, x: Tensor, y: Tensor, *, flat: float = FLAT, most: int = MOST) -> Growth:
    """The number of draws at which two independent estimates of the loss's gradient agree; doubled from one.

    Args:
        classifier: random, and differentiable.
        x: a few images [B, 3, H, W].
        y: labels [B].
        flat: cosine that counts as agreement.
        most: draws to try at most.
    """
    cosines: dict[int, float] = {}
    sums = [torch.zeros_like(x), torch.zeros_like(x)]
    seen, k = 0, 1
    while True:
        while seen < k:
            for half, total in enumerate(sums):
                total += _gradient(classifier, x, y, draw=2 * seen + half + 1)
            seen += 1
        cosines[k] = float(F.cosine_similarity(*(total.flatten(1) for total in sums), dim=1).mean())
        if cosines[k] >= flat or 2 * k > most:
            return Growth(k, cosines)
        k *= 2


def _gradient(classifier: Classifier, x: Tensor, y: Tensor, *, draw: int) -> Tensor:
    """Of the margin, scaled to unit length: neither saturation nor a single image's size weighs in."""
    with noise.redraw(x, draw), torch.enable_grad():
        leaf = x.detach().requires_grad_()
        grad = slope(margin(classifier(leaf), y), leaf)
    return grad / grad.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
