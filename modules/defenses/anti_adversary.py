"""Anti-Adversary (arXiv:2103.14347): push every image deeper into the class it is taken for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.defenses.base import Defense
from modules.defenses.smooth import signs, unrolling, variant
from modules.encoders.base import ImageEncoder
from modules.units import Pixels
from modules.zero_shot.head import ZeroShotHead


class AntiAdversary(Defense):
    """Descends the cross-entropy to the model's own prediction by sign steps.

    As published there is no ball, no box and no noise: the moved image may leave [0, 1].  The published step is for
    CIFAR classifiers that read pixels; here it is in pixels too, before the encoder's mean and standard deviation.

    Args:
        encoder: the encoder to defend.
        head: of the task; its prediction is what is confirmed.
        steps: k.
        step_size: a, in [0, 1] pixels.
        clip: keep the moved image in the box (ours; off as published).
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        head: ZeroShotHead,
        /,
        *,
        steps: int = 2,
        step_size: Pixels = 0.15,
        clip: bool = False,
    ) -> None:
        super().__init__(encoder)
        if steps < 0 or step_size <= 0:
            raise ValueError(f"Anti-Adversary takes steps >= 0 of size > 0, not {steps} of {step_size}")
        self.head = head
        self.steps, self.step_size, self.clip = steps, step_size, clip
        self.soft = False

    def purify_pixels(self, x: Tensor) -> Tensor:
        """x [B, 3, H, W], moved; differentiated through every step, a sign by its straight-through slope."""
        with unrolling(x) as exact:
            return self._descend(x, exact)

    def _descend(self, x: Tensor, exact: bool) -> Tensor:
        moved, label = x, None
        for _ in range(self.steps):
            leaf = moved if exact else moved.detach().requires_grad_()
            with torch.enable_grad():
                logits = self.head(self.encoder.encode_image(leaf))
                label = logits.detach().argmax(dim=1) if label is None else label
                loss = F.cross_entropy(logits, label, reduction="sum")
                (grad,) = torch.autograd.grad(loss, leaf, create_graph=exact)
                moved = leaf - self.step_size * signs(grad, soft=self.soft)
                moved = moved.clamp(0.0, 1.0) if self.clip else moved
        return moved if exact else moved.detach()

    def smoothed(self) -> ImageEncoder | None:
        """The same steps along a smooth sign."""
        return variant(self, soft=True)

    def cheaper(self) -> ImageEncoder | None:
        """One step as long as all together."""
        return variant(self, steps=1, step_size=self.steps * self.step_size) if self.steps > 1 else None

    def iterates(self) -> list[ImageEncoder]:
        """The defence after fewer steps."""
        return [variant(self, steps=steps) for steps in range(1, self.steps)]
