"""Random noise (RN): the control that every purifier must beat."""

from __future__ import annotations

from torch import Tensor

from modules.defenses.base import Defense
from modules.encoders.base import ImageEncoder
from modules.perturb.threat import Norm, Threat
from modules.units import Pixels


class RandomNoise(Defense):
    """Adds uniform noise to the image; TTC with no steps (CVPR 2025).

    Args:
        encoder: the encoder to defend.
        norm: of the ball the noise is uniform in.
        eps: its radius, in [0, 1] pixels.
    """

    random = True

    def __init__(self, encoder: ImageEncoder, /, *, norm: Norm = "linf", eps: Pixels = 4 / 255) -> None:
        threat = Threat(norm, eps)
        super().__init__(encoder)
        self.threat = threat

    def purify_pixels(self, x: Tensor) -> Tensor:
        """x [B, 3, H, W] plus noise, cut to the box."""
        return (x + self.threat.sample(x, "random_noise")).clamp(0.0, 1.0)
