"""Hedge Defense (arXiv:2106.04938): attack all classes at once; the attacker's wrong one falls first."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.choices import check_choice
from modules.defenses.base import Defense
from modules.defenses.smooth import signs, unrolling, variant
from modules.encoders.base import ImageEncoder
from modules.perturb.ascent import ascend
from modules.perturb.threat import Threat
from modules.units import Pixels
from modules.zero_shot.head import ZeroShotHead

Predict = Literal["sum", "final"]


def cross_entropy_to_all(logits: Tensor) -> Tensor:
    """[B] cross-entropy of logits [B, K] summed over all classes: K KL(uniform, softmax) and a constant."""
    return logits.shape[1] * logits.logsumexp(dim=1) - logits.sum(dim=1)


class HedgeDefense(Defense):
    """Ascends the cross-entropy to all classes from a random start, in a linf ball and the box.

    The released code does not predict on the final point: it sums the logits on the way, at the points before each
    step but the first.  That is ``predict: sum``; here normalised embeddings are averaged, which gives the same class.

    Args:
        encoder: the encoder to defend.
        head: of the task.
        eps: radius of the ball, in [0, 1] pixels.
        step_size: in [0, 1] pixels.
        steps: sign steps.
        predict: ``sum`` over the points on the way, as released, or the ``final`` point.
    """

    random = True

    def __init__(
        self,
        encoder: ImageEncoder,
        head: ZeroShotHead,
        /,
        *,
        eps: Pixels = 0.031,
        step_size: Pixels = 0.007,
        steps: int = 20,
        predict: Predict = "sum",
    ) -> None:
        check_choice("predict", predict, Predict)
        super().__init__(encoder)
        least = 2 if predict == "sum" else 1
        if steps < least or step_size <= 0:
            raise ValueError(
                f"Hedge Defense ({predict}) takes steps >= {least} of size > 0, not {steps} of {step_size}"
            )
        self.head, self.threat = head, Threat("linf", eps)
        self.step_size, self.steps, self.predict = step_size, steps, predict
        self.soft = False

    def hedge(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The final point [B, 3, H, W], and the embeddings [B, D] of the points before each step.

        Differentiated through every step, a sign by its straight-through slope.
        """
        seen: list[Tensor] = []
        with unrolling(x) as exact:

            def spread(v: Tensor) -> Tensor:
                z = self.encoder.encode_image(v)
                seen.append(z if exact else z.detach())
                return cross_entropy_to_all(self.head(z))

            *_, last = ascend(
                spread,
                x,
                self.threat,
                steps=self.steps,
                step_size=self.step_size,
                start=self.threat.sample(x, "hedge"),
                direction=lambda grad: signs(grad, soft=self.soft),
                differentiable=exact,
            )
        return last.x, seen

    def purify_pixels(self, x: Tensor) -> Tensor:
        """The final point [B, 3, H, W]."""
        return self.hedge(x)[0]

    def encode_image(self, x: Tensor) -> Tensor:
        """Embeddings [B, D] of the final point, or the mean normalised one of the points on the way."""
        if self.predict == "final":
            return super().encode_image(x)
        units = [F.normalize(z, dim=1) for z in self.hedge(x)[1][1:]]
        return self.purify_latent(torch.stack(units).mean(dim=0))

    def smoothed(self) -> ImageEncoder | None:
        """The same steps along a smooth sign."""
        return variant(self, soft=True)

    def cheaper(self) -> ImageEncoder | None:
        """A fifth of the steps."""
        steps = max(2, self.steps // 5)
        return variant(self, steps=steps) if steps < self.steps else None

    def iterates(self) -> list[ImageEncoder]:
        """The defence after a quarter, half and three quarters of its steps: twenty unrolled loops are too many."""
        stops = {self.steps * quarter // 4 for quarter in (1, 2, 3)}
        return [variant(self, steps=steps) for steps in sorted(stops) if steps > 1]
