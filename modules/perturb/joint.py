"""Several images of one sample perturbed at once, each inside a ball of its own."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from modules import noise
from modules.perturb.threat import Threat


def apart(x: Tensor, images: int) -> Tensor:
    """[B * images, C, H, W] the images that are stacked along the channels of x [B, images * C, H, W]."""
    return x if images == 1 else x.unflatten(1, (images, -1)).flatten(0, 1)


def together(x: Tensor, images: int) -> Tensor:
    """[B, images * C, H, W] the images x [B * images, C, H, W] of each sample, stacked along the channels."""
    return x if images == 1 else x.unflatten(0, (-1, images)).flatten(1, 2)


@dataclass(frozen=True)
class JointThreat(Threat):
    """The product of as many balls as a sample has images: ``eps`` holds for every one of them.

    The images lie behind one another along the channels, [B, images * C, H, W].

    Args:
        norm: ``linf`` or ``l2``.
        eps: radius of each image's ball, in [0, 1] pixels.
        images: of a sample.

    Raises:
        ValueError: as ``Threat``; or several images under ``l1``, whose sparse steps know one image only.
    """

    images: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm == "l1" and self.images > 1:
            raise ValueError("several images cannot be perturbed at once under l1; choose linf or l2, or one image")

    def project(self, delta: Tensor) -> Tensor:
        """The point of the balls nearest to delta [B, images * C, H, W]."""
        return together(super().project(apart(delta, self.images)), self.images)

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """[B] the length of the longest perturbation of a sample."""
        each = super().distance(apart(x, self.images), apart(x_adv, self.images))
        return each.unflatten(0, (-1, self.images)).amax(dim=1)

    def steepest(self, grad: Tensor) -> Tensor:
        """Direction of steepest ascent: of unit length in every image."""
        return together(super().steepest(apart(grad, self.images)), self.images)

    def sample(self, x: Tensor, stream: str = "start") -> Tensor:
        """A random perturbation, uniform in the product of the balls."""
        with noise.parts(range(self.images)):
            return together(super().sample(apart(x, self.images), stream), self.images)

    def sample_far(self, x: Tensor, stream: str = "start") -> Tensor:
        """A random perturbation on the surface of every ball."""
        with noise.parts(range(self.images)):
            return together(super().sample_far(apart(x, self.images), stream), self.images)
