"""NAC, a counterattack with Nesterov's momentum: TTC that looks ahead."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from modules.defenses.gates import Direction
from modules.defenses.smooth import signs
from modules.defenses.ttc import TTC
from modules.encoders.base import ImageEncoder
from modules.perturb.ascent import Iterate, ascend
from modules.perturb.losses import squared_l2
from modules.units import Pixels


class NAC(TTC):
    """TTC whose steps follow v = mu v + alpha sign(g), with g taken mu v ahead of the current point.

    Gate, start and weights of the iterates are TTC's.  The published thresholds are tuned and not known; TTC's is
    the default, and ``calibrate`` sets another.  Ours: v is kept where ball and box stop the point.

    Args:
        encoder: the encoder to defend.
        eps: radius of the counterattack, linf, in [0, 1] pixels.
        step_size: alpha, in [0, 1] pixels.
        steps: N.
        tau: drifts on one side of it are counterattacked.
        direction: ``below`` counterattacks small drifts, ``above`` large ones.
        beta: weight of later iterates: exp(beta k), normalised.
        momentum: mu.
        calibrate: set ``tau`` and ``direction`` on a tuning split before the evaluation.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        /,
        *,
        eps: Pixels = 4 / 255,
        step_size: Pixels = 1 / 255,
        steps: int = 2,
        tau: float = 0.2,
        direction: Direction = "below",
        beta: float = 2.0,
        momentum: float = 0.9,
        calibrate: bool = False,
    ) -> None:
        super().__init__(
            encoder,
            eps=eps,
            step_size=step_size,
            steps=steps,
            tau=tau,
            direction=direction,
            beta=beta,
            calibrate=calibrate,
        )
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is {momentum}; it lies in [0, 1)")
        self.momentum = momentum

    def _path(self, x: Tensor, noisy: Tensor, z0: Tensor, *, exact: bool) -> Iterator[Iterate]:
        velocity = torch.zeros_like(x)  # in units of the step

        def ahead(v: Tensor) -> Tensor:
            look = v + self.momentum * self.step_size * velocity
            return squared_l2(self.encoder.encode_image(look), z0)

        def accelerate(grad: Tensor) -> Tensor:
            nonlocal velocity
            velocity = self.momentum * velocity + signs(grad, soft=self.soft)
            return velocity

        return ascend(
            ahead,
            x,
            self.threat,
            steps=self.steps,
            step_size=self.step_size,
            start=noisy - x,
            direction=accelerate,
            differentiable=exact,
        )
