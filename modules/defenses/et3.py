"""ET3 (arXiv:2603.26984): move the image to lower energy before looking at it."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.defenses.base import Defense
from modules.defenses.low_pass import scaled_to
from modules.defenses.smooth import unrolling, variant
from modules.encoders.base import ImageEncoder
from modules.perturb.ascent import ascend
from modules.perturb.threat import Threat
from modules.units import Pixels
from modules.zero_shot.head import ZeroShotHead


class ET3(Defense):
    """Descends the energy -T logsumexp(logits / T) along the normalised gradient, in a linf ball and the box.

    No sign and no gate, so the gradient through the steps is exact.  The step is said for images of 224 pixels and
    shrinks with smaller ones, so that it moves a pixel as far at every size.

    Args:
        encoder: the encoder to defend.
        head: of the task; the release can also take the words of a larger vocabulary.
        steps: of descent.
        step_size: alpha, l2 length of a step in [0, 1] pixels of an image of 224 a side.
        eps: radius of the linf ball, in [0, 1] pixels.
        temperature: T.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        head: ZeroShotHead,
        /,
        *,
        steps: int = 2,
        step_size: float = 2.5,
        eps: Pixels = 5 / 255,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(encoder)
        if steps < 0 or step_size <= 0 or temperature <= 0:
            raise ValueError(
                f"ET3 takes steps >= 0, step_size > 0 and temperature > 0, not {steps}, {step_size}, {temperature}"
            )
        self.head, self.threat = head, Threat("linf", eps)
        self.steps, self.step_size = steps, scaled_to(encoder.image_size, step_size)
        self.temperature = temperature

    def evidence(self, x: Tensor) -> Tensor:
        """[B] minus the energy of x [B, 3, H, W]."""
        logits = self.head(self.encoder.encode_image(x))
        return self.temperature * torch.logsumexp(logits / self.temperature, dim=1)

    def purify_pixels(self, x: Tensor) -> Tensor:
        """x [B, 3, H, W], moved; differentiated through every step."""
        with unrolling(x) as exact:
            *_, last = ascend(
                self.evidence,
                x,
                self.threat,
                steps=self.steps,
                step_size=self.step_size,
                direction=Threat("l2").steepest,
                differentiable=exact,
            )
        return last.x

    def cheaper(self) -> ImageEncoder | None:
        """One step as long as all together."""
        return variant(self, steps=1, step_size=self.steps * self.step_size) if self.steps > 1 else None

    def iterates(self) -> list[ImageEncoder]:
        """The defence after fewer steps."""
        return [variant(self, steps=steps) for steps in range(1, self.steps)]
