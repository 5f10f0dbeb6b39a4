"""Projected gradient descent (arXiv:1706.06083), the inner attack of FARE and TeCoA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from modules.attacks.base import Attack, LabelLoss, Labels, where_image
from modules.choices import check_choice
from modules.perturb.ascent import ascend
from modules.perturb.losses import LABEL_LOSSES, LabelLossName, Loss
from modules.perturb.threat import Threat, per_image
from modules.units import Pixels

Keep = Literal["best", "last"]


class PGD(Attack):
    """Steepest ascent with a fixed step (arXiv:1706.06083).

    Args:
        threat: the ball.
        steps: gradient steps.
        step_size: in [0, 1] pixels.
        random_start: start uniformly in the ball, not at the image.  FARE's loss has no gradient at the image.
        keep: ``best`` returns each image's point of highest loss (one more forward pass), ``last`` the last iterate,
            as the released FARE and TeCoA training does.
        loss: what to ascend when called with labels.
        momentum: share of the last step's direction that goes on (arXiv:1710.06081), 0 for none.
        restarts: independent runs.
    """

    def __init__(
        self,
        threat: Threat,
        /,
        *,
        steps: int = 10,
        step_size: Pixels = 1 / 255,
        random_start: bool = True,
        keep: Keep = "best",
        loss: LabelLossName = "ce",
        momentum: float = 0.0,
        restarts: int = 1,
    ) -> None:
        check_choice("keep", keep, Keep)
        check_choice("loss", loss, LabelLossName)
        super().__init__(threat, restarts=restarts)
        if steps < 0 or step_size <= 0:
            raise ValueError(f"PGD takes steps >= 0 of size > 0, not steps={steps}, step_size={step_size}")
        if momentum < 0:
            raise ValueError(f"PGD's momentum is {momentum}; it cannot be negative")
        self.momentum = momentum
        self.steps, self.step_size, self.random_start = steps, step_size, random_start
        self.keep: Keep = keep
        self.loss: LabelLossName = loss

    def label_losses(self, logits: Tensor, y: Tensor) -> list[tuple[LabelLoss, Labels]]:
        """One loss, the configured one."""
        return [(LABEL_LOSSES[self.loss], (y,))]

    def _perturb(self, loss: Loss, x: Tensor, stream: str) -> Tensor:
        start = self.threat.sample(x, stream) if self.random_start else None
        best, best_value = x, torch.full((len(x),), -torch.inf, device=x.device)
        point = x
        direction = _remembering(self.momentum, self.threat) if self.momentum else None
        for iterate in ascend(
            loss, x, self.threat, steps=self.steps, step_size=self.step_size, start=start, direction=direction
        ):
            point, value = iterate
            if self.keep == "best":
                if value is None:
                    with torch.no_grad():
                        value = loss(point)
                better = value.detach() > best_value
                best = where_image(better, point, best)
                best_value = torch.maximum(best_value, value.detach())
        return best if self.keep == "best" else point


def _remembering(momentum: float, threat: Threat) -> Callable[[Tensor], Tensor]:
    """Gradient -> steepest direction of all gradients so far, each of mean magnitude one (arXiv:1710.06081, eq. 6)."""
    velocity: Tensor | None = None

    def direction(grad: Tensor) -> Tensor:
        nonlocal velocity
        grad = grad / per_image(grad.flatten(1).abs().mean(dim=1).clamp_min(1e-30), grad)
        velocity = grad if velocity is None else momentum * velocity + grad
        return threat.steepest(velocity)

    return direction
