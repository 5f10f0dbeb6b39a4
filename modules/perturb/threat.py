"""What an attacker may do to an image: a ball around it, cut with the box of pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from modules import noise

Norm = Literal["linf", "l2"]


def per_image(value: Tensor, like: Tensor) -> Tensor:
    """[B] -> [B, 1, ..., 1], to scale a batch ``like`` [B, ...] image by image."""
    return value.view(-1, *[1] * (like.dim() - 1))


def l2_norm(x: Tensor) -> Tensor:
    """[B] Euclidean length of each image of x [B, ...]."""
    return x.flatten(1).norm(dim=1)


@dataclass(frozen=True)
class Threat:
    """The perturbations an attacker may add.

    Args:
        norm: ``linf`` or ``l2``.
        eps: radius of the ball, in [0, 1] pixels (4/255, not 4).

    Raises:
        ValueError: unknown norm, or eps negative or not finite.
    """

    norm: Norm = "linf"
    eps: float = 4 / 255

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise ValueError(f"unknown norm {self.norm!r}; choose one of: linf, l2")
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise ValueError(f"eps is {self.eps}; it is a radius in [0, 1] pixels and cannot be negative")

    def project(self, delta: Tensor) -> Tensor:
        """The point of the ball nearest to delta [B, C, H, W]."""
        if self.norm == "linf":
            return delta.clamp(-self.eps, self.eps)
        length = l2_norm(delta).clamp_min(1e-12)
        return delta * per_image((self.eps / length).clamp_max(1.0), delta)

    def confine(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """The point of ball and box that x_adv [B, C, H, W] stands for; x: the images attacked."""
        return (x + self.project(x_adv - x)).clamp(0.0, 1.0)

    def contains(self, x: Tensor, x_adv: Tensor, tolerance: float = 1e-5) -> Tensor:
        """[B] bool: x_adv lies in the ball around x and in the box, up to rounding."""
        inside = ((x_adv >= 0) & (x_adv <= 1)).flatten(1).all(dim=1)
        return inside & (self.distance(x, x_adv) <= self.eps + tolerance)

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """[B] length of x_adv - x under the norm."""
        delta = (x_adv - x).flatten(1)
        return delta.abs().amax(dim=1) if self.norm == "linf" else delta.norm(dim=1)

    def steepest(self, grad: Tensor) -> Tensor:
        """Direction of steepest ascent for a gradient [B, C, H, W]: of unit length under the norm."""
        if self.norm == "linf":
            return grad.sign()
        return grad / per_image(l2_norm(grad).clamp_min(1e-12), grad)

    def sample(self, x: Tensor, stream: str = "start") -> Tensor:
        """A random perturbation [B, C, H, W], uniform in the ball, drawn per sample (``modules.noise``).

        The box is not looked at, as in FARE's and TTC's starts (the first projection does that).
        """
        if self.norm == "linf":
            return (2 * noise.uniform(x, stream) - 1) * self.eps
        direction = noise.normal(x, stream)
        direction = direction / per_image(l2_norm(direction).clamp_min(1e-12), x)
        dimensions = x[0].numel()
        radius = noise.uniform(x, stream + "/radius", ()) ** (1 / dimensions)
        return direction * per_image(self.eps * radius, x)

    def sample_far(self, x: Tensor, stream: str = "start") -> Tensor:
        """A random perturbation [B, C, H, W] on the ball's surface, as APGD starts (arXiv:2003.01690)."""
        if self.norm == "linf":
            direction = 2 * noise.uniform(x, stream) - 1
            length = direction.flatten(1).abs().amax(dim=1)
        else:
            direction = noise.normal(x, stream)
            length = l2_norm(direction)
        return direction * per_image(self.eps / length.clamp_min(1e-12), x)
