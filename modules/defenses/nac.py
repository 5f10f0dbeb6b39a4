"""NAC, a counterattack with Nesterov's momentum: TTC that looks ahead."""

from __future__ import annotations

import torch
from torch import Tensor

from modules import noise
from modules.defenses.smooth import opened, signs, unrolling, variant
from modules.defenses.ttc import TTC, Direction
from modules.encoders.base import ImageEncoder
from modules.perturb.ascent import ascend
from modules.perturb.losses import squared_l2
from modules.perturb.threat import per_image


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
        eps: float = 4 / 255,
        step_size: float = 1 / 255,
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
        self.soft = False

    def gate(self, x: Tensor) -> Tensor:
        """[B] how far the drift lies on the counterattacked side of tau, in units of tau."""
        return self._opening(self.probe(x)[2])

    def _opening(self, drift: Tensor) -> Tensor:
        side = 1 if self.direction == "above" else -1
        return side * (drift - self.tau) / max(abs(self.tau), 1e-6)

    def purify_pixels(self, x: Tensor) -> Tensor:
        """x [B, 3, H, W] plus the weighted counterattack where the gate opens, plus the probe's noise elsewhere.

        Differentiated through every step and the gate, both by their straight-through slopes.
        """
        with unrolling(x) as exact, torch.set_grad_enabled(exact):
            z0, noisy, drift = self.probe(x)
            if exact or self.soft:
                weight = per_image(opened(self._opening(drift), soft=self.soft), x)
                return (noisy + weight * (self._ahead(x, noisy, z0, exact=exact) - noisy)).clamp(0.0, 1.0)
            moved, index = noisy.clone(), self.gated(drift).nonzero().squeeze(1)
            if self.steps and len(index):
                with noise.subset(index):
                    moved[index] = self._ahead(x[index], noisy[index], z0[index])
            return moved

    def _ahead(self, x: Tensor, noisy: Tensor, z0: Tensor, *, exact: bool = False) -> Tensor:
        """The weighted mean [B, 3, H, W] of the counterattack's points."""
        velocity = torch.zeros_like(x)  # in units of the step

        def ahead(v: Tensor) -> Tensor:
            look = v + self.momentum * self.step_size * velocity
            return squared_l2(self.encoder.encode_image(look), z0)

        def accelerate(grad: Tensor) -> Tensor:
            nonlocal velocity
            velocity = self.momentum * velocity + signs(grad, soft=self.soft)
            return velocity

        path = ascend(
            ahead,
            x,
            self.threat,
            steps=self.steps,
            step_size=self.step_size,
            start=noisy - x,
            direction=accelerate,
            differentiable=exact,
        )
        weighted = [w * (p.x - x) for w, p in zip(self.weights(x), path, strict=True)]
        return (x + torch.stack(weighted).sum(dim=0)).clamp(0.0, 1.0)  # of rounding

    def differentiable(self) -> ImageEncoder:
        """Itself: nothing is cut."""
        return self

    def smoothed(self) -> ImageEncoder | None:
        """A smooth sign and a smooth gate."""
        return variant(self, soft=True)

    def cheaper(self) -> ImageEncoder | None:
        """One step as long as all together."""
        return variant(self, steps=1, step_size=self.steps * self.step_size) if self.steps > 1 else None

    def iterates(self) -> list[ImageEncoder]:
        """The defence after fewer steps."""
        return [variant(self, steps=steps) for steps in range(1, self.steps)]
