"""Strides across the whole ball, for models that switch from one behavior to another."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.attacks.apgd import targeted_margin
from modules.attacks.base import Attack, LabelLoss, Labels, Search, likeliest_targets, where_image
from modules.perturb.ascent import slope
from modules.perturb.losses import Loss
from modules.perturb.threat import Threat, per_image


class Jump(Attack):
    """Targeted ascent in strides of twice the radius, so that every step crosses the ball.

    A confidence cascade, a router or a plateau hides its other branch from small steps: near the image their gradient
    is of the branch that answers there.  Strides of 2 eps land on the far side of the ball, where another branch may
    answer, and momentum keeps what the last branch's gradient said.  The first run starts at the image, the second at
    a random corner of the ball, the third where the ball comes nearest to a picture of the target's class, further
    ones at other corners.

    Args:
        threat: the ball.
        steps: strides per run; each is one gradient.
        targets: so many of the most likely wrong classes, one after the other.
        restarts: runs per target.
        momentum: share of the last direction that goes on from stride to stride.
    """

    guided = True

    def __init__(
        self, threat: Threat, /, *, steps: int = 6, targets: int = 9, restarts: int = 2, momentum: float = 0.0
    ) -> None:
        super().__init__(threat, restarts=restarts)
        if steps < 1 or targets < 1 or not momentum >= 0:
            raise ValueError(
                f"Jump takes steps and targets >= 1 and momentum >= 0, not {steps=}, {targets=}, {momentum=}"
            )
        self.steps, self.targets, self.momentum = steps, targets, momentum

    def label_losses(self, logits: Tensor, y: Tensor) -> list[tuple[LabelLoss, Labels]]:
        """A targeted margin per target, ranked by the clean logits: its direction heeds no scale of the logits."""
        return [(targeted_margin, (y, target)) for target in likeliest_targets(logits, y, self.targets)]

    def _perturb(self, loss: Loss, x: Tensor, stream: str) -> Tensor:
        point = x
        if not stream.endswith("/0"):
            point = self.threat.confine(x, x + self.threat.sample_corner(x, stream))
        if stream.endswith("/2") and isinstance(loss, Search) and loss.guides is not None:
            guide = loss.guides[loss.row_labels()[1]]
            known = guide.isfinite().flatten(1).all(dim=1)
            point = where_image(known, self.threat.confine(x, torch.where(guide.isfinite(), guide, x)), point)
        velocity = torch.zeros_like(x)
        for _ in range(self.steps):
            keep = loss.narrow() if isinstance(loss, Search) else None
            if keep is not None:
                x, point, velocity = x[keep], point[keep], velocity[keep]
            if len(x) == 0:
                break
            with torch.enable_grad():
                leaf = point.detach().requires_grad_()
                grad = torch.nan_to_num(slope(loss(leaf), leaf))
            size = grad.flatten(1).abs().mean(dim=1).clamp_min(1e-30)
            velocity = self.momentum * velocity + grad / per_image(size, grad)
            point = self.threat.confine(x, point.detach() + 2 * self.threat.eps * self.threat.steepest(velocity))
        return point
