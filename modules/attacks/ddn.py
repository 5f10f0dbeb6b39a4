"""Decoupled direction and norm (arXiv:1811.09600): the nearest misclassified image, by a radius that breathes."""

from __future__ import annotations

import math
from typing import NoReturn

import torch
from torch import Tensor

from modules.attacks.base import Attack, LabelLoss, Labels, Search
from modules.choices import check_choice
from modules.perturb.ascent import slope
from modules.perturb.losses import LABEL_LOSSES, LabelLossName, Loss, margin
from modules.perturb.threat import Threat, l2_norm, per_image

_LAST = 0.01  # of the first step, where the cosine ends


class DDN(Attack):
    """Decoupled direction and norm (arXiv:1811.09600); under linf and l1 in the manner of FMN (arXiv:2102.12827).

    A perturbation follows the gradient while its radius shrinks by a share wherever the image is misclassified and
    grows wherever it is not, so that it walks along the decision boundary, mostly outside the ball at first.  What it
    meets inside the ball counts, such as tips of misclassified regions that reach into it from outside, which attacks
    that never leave the ball seldom meet.  Under l2 a point is put onto the sphere of its radius; under linf and l1
    into the ball.

    Differs from the papers: radius and steps start at a multiple of the threat's eps, and the loss is any label loss.

    Args:
        threat: the ball.
        steps: gradient steps.
        start: the first radius, and the first step, in eps.
        shrink: share by which the radius changes from step to step.
        loss: what to ascend.
        restarts: runs; the first starts at the image, further ones at the worst point known, at its own radius.
    """

    def __init__(
        self,
        threat: Threat,
        /,
        *,
        steps: int = 100,
        start: float = 4.0,
        shrink: float = 0.05,
        loss: LabelLossName = "ce",
        restarts: int = 1,
    ) -> None:
        check_choice("loss", loss, LabelLossName)
        super().__init__(threat, restarts=restarts)
        if steps < 1 or start <= 0 or not 0 < shrink < 1:
            raise ValueError(f"DDN takes steps >= 1, start > 0 and 0 < shrink < 1, not {steps=}, {start=}, {shrink=}")
        self.steps, self.start, self.shrink = steps, start, shrink
        self.loss: LabelLossName = loss

    def label_losses(self, logits: Tensor, y: Tensor) -> list[tuple[LabelLoss, Labels]]:
        """One loss, the configured one."""
        return [(LABEL_LOSSES[self.loss], (y,))]

    def _perturb(self, loss: Loss, x: Tensor, stream: str) -> NoReturn:
        raise ValueError("DDN looks for the nearest misclassified image and needs labels; use APGD for another loss")

    def _run(self, search: Search) -> None:
        for loss, goals, first in self._goals(search):
            for restart in range(self.restarts):
                search.aim(loss, *goals, first=first)
                if len(search.index):
                    self._approach(search, onward=restart > 0)

    def _approach(self, search: Search, *, onward: bool) -> None:
        x = search.x[search.index]
        delta = search.worst[search.index] - x if onward else torch.zeros_like(x)
        radius = torch.full_like(delta.flatten(1)[:, 0], self.start * self.threat.eps)
        if onward:
            known = self.threat.distance(x, x + delta)
            radius = torch.where(known > 0, known, radius)
        for i in range(self.steps):
            keep = search.narrow()
            if keep is not None:
                x, delta, radius = x[keep], delta[keep], radius[keep]
            if len(x) == 0:
                return
            with torch.enable_grad():
                leaf = (x + delta).detach().requires_grad_()
                logits = search.logits(leaf)
                grad = torch.nan_to_num(slope(search.loss(logits, *search.row_labels()), leaf))
            fooled = margin(logits.detach(), search.y[search.index]) > 0
            radius = radius * torch.where(fooled, 1 - self.shrink, 1 + self.shrink)
            share = _LAST + (1 - _LAST) * (1 + math.cos(math.pi * i / self.steps)) / 2
            step = share * self.start * self._length(x) * grad / per_image(l2_norm(grad).clamp_min(1e-12), grad)
            delta = self._at(radius, delta + step)
            delta = (x + delta).clamp(0.0, 1.0) - x
        with torch.no_grad():
            search.logits(x + delta, judged=True)

    def _length(self, x: Tensor) -> float:
        """Euclidean length of a step as long as eps under the norm, of a perturbation that is spread evenly."""
        size = x[0].numel()
        return self.threat.eps * {"linf": size**0.5, "l2": 1.0, "l1": size**-0.5}[self.threat.norm]

    def _at(self, radius: Tensor, delta: Tensor) -> Tensor:
        """Perturbations [B, C, H, W] of these radii [B]: on the sphere under l2, in the ball under linf and l1."""
        if self.threat.norm == "l2":
            return delta * per_image(radius / l2_norm(delta).clamp_min(1e-12), delta)
        if self.threat.norm == "linf":
            limit = per_image(radius, delta)
            return delta.clamp(-limit, limit)
        return Threat("l1", 1.0).project(delta / per_image(radius, delta)) * per_image(radius, delta)
