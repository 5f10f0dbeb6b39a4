"""Random points of the ball: no attack, but what every attack has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.attacks.base import Attack, LabelLoss, Labels, where_image
from modules.perturb.losses import Loss, margin
from modules.perturb.threat import Threat


class RandomPoints(Attack):
    """Looks at random points of the ball, every other one as far out as the ball goes.

    A classifier that falls to these is fragile beyond any attack's doing; one that falls to these and not to attacks
    misleads the attacks.

    Args:
        threat: the ball.
        points: how many; each is one forward pass.
    """

    gradient_free = True
    blind = True

    def __init__(self, threat: Threat, /, *, points: int = 10) -> None:
        super().__init__(threat)
        if points < 1:
            raise ValueError(f"points is {points}; give at least one")
        self.points = points

    def label_losses(self, logits: Tensor, y: Tensor) -> list[tuple[LabelLoss, Labels]]:
        """The margin; it decides which point is kept."""
        return [(margin, (y,))]

    @torch.no_grad()
    def _perturb(self, loss: Loss, x: Tensor, stream: str) -> Tensor:
        """The point of the largest loss; a search never narrows here, so that every image meets every point."""
        best, most = x, torch.full((len(x),), -torch.inf, device=x.device)
        for k in range(self.points):
            name = f"{stream}/{k}"
            delta = self.threat.sample(x, name) if k % 2 else self.threat.sample_corner(x, f"{name}/direction")
            point = self.threat.confine(x, x + delta)
            value = loss(point)
            best = where_image(value > most, point, best)
            most = torch.maximum(most, value)
        return best
