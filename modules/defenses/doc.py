"""DOC, directional orthogonal counterattack (arXiv:2511.09064): TTC with detours and momentum."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.choices import check_choice
from modules.defenses.base import Defense
from modules.defenses.gates import Direction
from modules.defenses.smooth import signs, unrolling, variant
from modules.encoders.base import ImageEncoder
from modules.perturb.ascent import ascend
from modules.perturb.losses import squared_l2
from modules.perturb.threat import Threat, per_image
from modules.units import Pixels


def orthogonal_to(g: Tensor, random: Tensor) -> Tensor:
    """Unit vectors [B, ...] along the part of ``random`` at right angles to the unit vectors g [B, ...]."""
    across = random - per_image((random * g).flatten(1).sum(dim=1), g) * g
    return Threat("l2").steepest(across)


class DOC(Defense):
    """Counterattacks along sign(m), where m averages gradients and random directions at right angles to them.

    With g the normalised gradient and r a unit vector orthogonal to it: m = g at first, then m = mu m + (1 - mu)
    (g + lambda r).  The counterattack is weighed against its own random start by w = sigmoid(gamma (tau - score)),
    where the score is one minus the mean cosine between the image and its noisy copies, so that a small score reads
    as attacked: the paper's equation.  Its prose says the opposite; that is ``direction: above``.

    The paper names no tau and no gamma; 0.3 and 20 are an independent port's, which also uses 0.155 and 75.  Its
    lambda, mu and number of draws are taken too.  Ours: the score's noise is cut to the box.

    Args:
        encoder: the encoder to defend.
        eps: radius of the counterattack and size of the score's noise, linf, in [0, 1] pixels.
        step_size: of the counterattack, in [0, 1] pixels.
        steps: N.
        orthogonal: lambda, the length of r.
        momentum: mu.
        draws: noisy copies behind a score.
        tau: the score at which w is one half.
        gamma: the sharpness of w.
        direction: ``below`` counterattacks small scores (the paper's equation), ``above`` large ones (its prose).
    """

    random = True

    def __init__(
        self,
        encoder: ImageEncoder,
        /,
        *,
        eps: Pixels = 4 / 255,
        step_size: Pixels = 3 / 255,
        steps: int = 4,
        orthogonal: float = 0.05,
        momentum: float = 0.75,
        draws: int = 5,
        tau: float = 0.3,
        gamma: float = 20.0,
        direction: Direction = "below",
    ) -> None:
        check_choice("direction", direction, Direction)
        super().__init__(encoder)
        if steps < 0 or step_size <= 0 or draws < 1 or tau <= 0 or not 0 <= momentum < 1:
            raise ValueError(
                f"DOC takes steps >= 0, step_size > 0, draws >= 1, tau > 0 and momentum in [0, 1), "
                f"not {steps}, {step_size}, {draws}, {tau}, {momentum}"
            )
        self.threat = Threat("linf", eps)
        self.step_size, self.steps, self.draws = step_size, steps, draws
        self.orthogonal, self.momentum = orthogonal, momentum
        self.tau, self.gamma, self.direction = tau, gamma, direction
        self.soft = False

    def score(self, x: Tensor, z0: Tensor) -> Tensor:
        """[B] one minus the mean cosine of z0 [B, D] to the embeddings of noisy copies of x [B, 3, H, W]."""
        cosines = []
        for draw in range(self.draws):
            noisy = (x + self.threat.eps * noise.normal(x, f"doc/score/{draw}").sign()).clamp(0.0, 1.0)
            cosines.append(F.cosine_similarity(self.encoder.encode_image(noisy), z0, dim=1))
        return 1 - torch.stack(cosines).mean(dim=0)

    def gate(self, x: Tensor) -> Tensor:
        """[B] how far the score lies on the counterattacked side of tau, in units of tau."""
        side = 1 if self.direction == "above" else -1
        return side * (self.score(x, self.encoder.encode_image(x)) - self.tau) / self.tau

    def purify_pixels(self, x: Tensor) -> Tensor:
        """x [B, 3, H, W] plus counterattack and random start, weighed; differentiated through every step."""
        with unrolling(x) as exact, torch.set_grad_enabled(exact):
            z0 = self.encoder.encode_image(x)
            side = 1 if self.direction == "above" else -1
            weight = per_image(torch.sigmoid(self.gamma * side * (self.score(x, z0) - self.tau)), x)
            first, *_, last = self._path(x, z0, exact)
            return (weight * last + (1 - weight) * first).clamp(0.0, 1.0)  # of rounding

    def _path(self, x: Tensor, z0: Tensor, exact: bool) -> list[Tensor]:
        """The points of the counterattack, the start at both ends where there is no step."""
        path = ascend(
            lambda v: squared_l2(self.encoder.encode_image(v), z0),
            x,
            self.threat,
            steps=self.steps,
            step_size=self.step_size,
            start=self.threat.sample(x, "doc"),
            direction=self._detour(x),
            differentiable=exact,
        )
        points = [iterate.x for iterate in path]
        return points if self.steps else points * 2

    def _detour(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """Gradients in, step directions out; remembers the momentum, draws noise by the names of x."""
        steepest, past = Threat("l2").steepest, []

        def direction(grad: Tensor) -> Tensor:
            g = steepest(grad)
            m = g
            if past:
                r = orthogonal_to(g, noise.normal(x, f"doc/orthogonal/{len(past)}"))
                m = self.momentum * past[-1] + (1 - self.momentum) * (g + self.orthogonal * r)
            past.append(m)
            return signs(m, soft=self.soft)

        return direction

    def smoothed(self) -> ImageEncoder | None:
        """The same steps along a smooth sign; the gate is smooth as it is."""
        return variant(self, soft=True)

    def cheaper(self) -> ImageEncoder | None:
        """One step as long as all together, and one draw for the score."""
        return variant(self, steps=1, step_size=self.steps * self.step_size, draws=1) if self.steps > 1 else None

    def iterates(self) -> list[ImageEncoder]:
        """The defence after fewer steps."""
        return [variant(self, steps=steps) for steps in range(1, self.steps)]
