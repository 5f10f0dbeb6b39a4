"""What an attacker may do to an image: a ball around it, cut with the box of pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from modules import noise
from modules.choices import check_choice

Norm = Literal["linf", "l2", "l1"]

_LEVEL_SLACK = 1e-3  # of a grey level: what single precision makes of 4/255 added to a pixel


def per_image(value: Tensor, like: Tensor) -> Tensor:
    """[B] -> [B, 1, ..., 1], to scale a batch ``like`` [B, ...] image by image."""
    return value.view(-1, *[1] * (like.dim() - 1))


def l2_norm(x: Tensor) -> Tensor:
    """[B] Euclidean length of each image of x [B, ...]."""
    return x.flatten(1).norm(dim=1)


def l1_norm(x: Tensor) -> Tensor:
    """[B] sum of absolute values of each image of x [B, ...]."""
    return x.flatten(1).abs().sum(dim=1)


def shrink_to_sum(size: Tensor, limit: Tensor, total: float) -> Tensor:
    """Sizes [B, N] >= 0, all shortened by one amount a row and cut at ``limit``, that sum to ``total`` at most.

    Row by row min(max(size - t, 0), limit) with the least t >= 0 that does it: the Euclidean projection onto l1 ball
    and box (arXiv:2103.01208, prop. 2.1).  As t falls from infinity the sum grows piecewise linearly; it bends where
    an entry wakes (t = size) and where it meets its limit (t = size - limit).
    """
    bends, order = torch.cat([size, (size - limit).clamp_min(0)], dim=1).sort(dim=1, descending=True)
    growing = torch.where(order < size.shape[1], 1, -1).cumsum(dim=1)  # entries awake below each bend, short of limits
    rises = growing[:, :-1] * (bends[:, :-1] - bends[:, 1:]).double()
    sums = torch.nn.functional.pad(rises.cumsum(dim=1), (1, 0))  # in double: thousands of terms
    below = (sums < total).sum(dim=1, keepdim=True)
    last = (below - 1).clamp_min(0)
    t = bends.gather(1, last) - (total - sums.gather(1, last)) / growing.gather(1, last)
    t = torch.where(below == bends.shape[1], 0, t).to(size.dtype)
    return torch.minimum((size - t).clamp_min(0), limit)


@dataclass(frozen=True)
class Threat:
    """The perturbations an attacker may add.

    Args:
        norm: ``linf``, ``l2`` or ``l1``.
        eps: radius of the ball, in [0, 1] pixels (4/255, not 4).

    Raises:
        ValueError: unknown norm, or eps negative or not finite.
    """

    norm: Norm = "linf"
    eps: float = 4 / 255

    def __post_init__(self) -> None:
        check_choice("norm", self.norm, Norm)
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise ValueError(f"eps is {self.eps}; it is a radius in [0, 1] pixels and cannot be negative")

    def project(self, delta: Tensor) -> Tensor:
        """The point of the ball nearest to delta [B, C, H, W]."""
        if self.norm == "linf":
            return delta.clamp(-self.eps, self.eps)
        if self.norm == "l1":
            return self._project_l1(delta, torch.full_like(delta, torch.inf))
        length = l2_norm(delta).clamp_min(1e-12)
        return delta * per_image((self.eps / length).clamp_max(1.0), delta)

    def confine(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """The point of ball and box that x_adv [B, C, H, W] stands for; x: the images attacked.

        Into the ball, then into the box; for ``l1`` the nearest point of both at once, since cutting at the box after
        the ball would waste much of the little that may be changed (arXiv:2103.01208).
        """
        if self.norm == "l1":
            delta = x_adv - x
            room = torch.where(delta > 0, 1 - x, x).clamp_min(0)
            return (x + self._project_l1(delta, room)).clamp(0.0, 1.0)
        return (x + self.project(x_adv - x)).clamp(0.0, 1.0)

    def _project_l1(self, delta: Tensor, room: Tensor) -> Tensor:
        """The point nearest to delta [B, C, H, W] in the l1 ball, no entry longer than ``room``."""
        size = shrink_to_sum(delta.abs().flatten(1), room.flatten(1), self.eps)
        return delta.sign() * size.view_as(delta)

    def contains(self, x: Tensor, x_adv: Tensor, tolerance: float = 1e-5) -> Tensor:
        """[B] bool: x_adv lies in the ball around x and in the box, up to rounding.

        Args:
            x: the images.
            x_adv: the points asked about.
            tolerance: in pixels; for ``l1``, where every entry rounds for itself, in units of eps once that is above 1.
        """
        inside = ((x_adv >= 0) & (x_adv <= 1)).flatten(1).all(dim=1)
        slack = tolerance * max(1.0, self.eps) if self.norm == "l1" else tolerance
        return inside & (self.distance(x, x_adv) <= self.eps + slack)

    def rounded(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """The picture of 8 bits in ball and box that is next to x_adv [B, C, H, W]; x: the images attacked.

        Pixels go to the nearest grey level that the ball allows.  Where the ball of ``l2`` or ``l1`` does not hold the
        nearest levels of an image, all of them are rounded towards the image.  A pixel without an allowed level stays.
        """
        near = (x_adv * 255).round()
        if self.norm == "linf":
            lowest = ((x - self.eps) * 255 - _LEVEL_SLACK).ceil().clamp_min(0)
            highest = ((x + self.eps) * 255 + _LEVEL_SLACK).floor().clamp_max(255)
            level = torch.minimum(torch.maximum(near, lowest), highest)
            return torch.where(lowest <= highest, level / 255, x_adv)
        inside = torch.where(x_adv > x, (x_adv * 255).floor(), (x_adv * 255).ceil()) / 255
        inside = torch.where((inside - x) * (x_adv - x) > 0, inside, x)
        return torch.where(per_image(self.contains(x, near / 255, tolerance=0.0), x), near / 255, inside)

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """[B] length of x_adv - x under the norm."""
        if self.norm == "l1":
            return l1_norm(x_adv - x)
        delta = (x_adv - x).flatten(1)
        return delta.abs().amax(dim=1) if self.norm == "linf" else delta.norm(dim=1)

    def steepest(self, grad: Tensor) -> Tensor:
        """Direction of steepest ascent for a gradient [B, C, H, W]: of unit length under the norm.

        For ``l1`` a single entry, the one of the largest derivative.
        """
        if self.norm == "linf":
            return grad.sign()
        if self.norm == "l1":
            flat = grad.flatten(1)
            entry = flat.abs().argmax(dim=1, keepdim=True)
            return torch.zeros_like(flat).scatter(1, entry, flat.gather(1, entry).sign()).view_as(grad)
        return grad / per_image(l2_norm(grad).clamp_min(1e-12), grad)

    def sample(self, x: Tensor, stream: str = "start") -> Tensor:
        """A random perturbation [B, C, H, W], uniform in the ball, drawn per sample (``modules.noise``).

        The box is not looked at, as in FARE's and TTC's starts (the first projection does that).
        """
        if self.norm == "linf":
            return (2 * noise.uniform(x, stream) - 1) * self.eps
        if self.norm == "l1":
            signed = 2 * noise.uniform(x, stream) - 1
            direction = -signed.sign() * (1 - signed.abs()).clamp_min(2.0**-25).log()  # Laplace: even on the l1 sphere
            direction = direction / per_image(l1_norm(direction).clamp_min(1e-12), x)
        else:
            direction = noise.normal(x, stream)
            direction = direction / per_image(l2_norm(direction).clamp_min(1e-12), x)
        dimensions = x[0].numel()
        radius = noise.uniform(x, stream + "/radius", ()) ** (1 / dimensions)
        return direction * per_image(self.eps * radius, x)

    def sample_corner(self, x: Tensor, stream: str = "start") -> Tensor:
        """A random perturbation [B, C, H, W] as far out as steps lead: under linf a corner, under l1 a single entry."""
        return self.eps * self.steepest(noise.normal(x, stream))

    def sample_far(self, x: Tensor, stream: str = "start") -> Tensor:
        """A random perturbation [B, C, H, W] on the ball's surface, as APGD starts (arXiv:2003.01690).

        For ``l1`` it is normal noise brought into ball and box, which leaves few entries (arXiv:2103.01208); it ends
        inside the ball only where the box is smaller.
        """
        if self.norm == "l1":
            direction = noise.normal(x, stream)
            direction = direction * per_image((self.eps / l1_norm(direction).clamp_min(1e-12)).clamp_min(1.0), x)
            return self.confine(x, x + direction) - x
        if self.norm == "linf":
            direction = 2 * noise.uniform(x, stream) - 1
            length = direction.flatten(1).abs().amax(dim=1)
        else:
            direction = noise.normal(x, stream)
            length = l2_norm(direction)
        return direction * per_image(self.eps / length.clamp_min(1e-12), x)
