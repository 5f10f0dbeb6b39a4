"""Two-alternative forced choice: which of two images is nearer to a reference?"""

from __future__ import annotations

from typing import Literal, Self

import torch
from torch import Tensor

from modules import noise
from modules.choices import check_choice
from modules.encoders.base import ImageEncoder
from modules.perceptual.metric import unit
from modules.perturb.joint import JointThreat, apart
from modules.perturb.threat import Threat

Target = Literal["reference", "alternatives", "all"]
"""What an attacker of a choice may change."""

PERTURBED: dict[str, tuple[int, ...]] = {"reference": (0,), "alternatives": (1, 2), "all": (0, 1, 2)}
"""Which images of a triplet (reference, left, right) those are."""


class Choice:
    """A classifier of triplets into left (0) and right (1), by the cosines to the reference.

    The pixels it looks at are those that an attacker may change, [B, k * 3, H, W]: the reference, both alternatives,
    or all three, behind one another along the channels.  The others are fixed; what a defence draws for them has
    nothing to do with what it draws for the first.  Equal cosines are left, as in the released evaluation.

    Args:
        encoder: bare, fine-tuned or defended.
        triplets: [B, 3, 3, H, W] reference, left and right, in [0, 1].
        target: what an attacker may change.

    Raises:
        ValueError: an unknown target.
    """

    def __init__(self, encoder: ImageEncoder, triplets: Tensor, /, *, target: Target = "reference") -> None:
        check_choice("target", target, Target)
        self.encoder, self.triplets = encoder, triplets
        self.target: Target = target
        self._fixed: Tensor | None = None  # embeddings [B, 3 - k, D] of what cannot be changed

    @property
    def pixels(self) -> Tensor:
        """[B, k * 3, H, W] what an attacker may change, unchanged."""
        return perturbed(self.triplets, self.target)

    def of(self, index: Tensor) -> Self:
        """The choices at ``index`` [B'] int64."""
        if not getattr(self.encoder, "random", False):
            self._embed_fixed()  # here, where it serves all that follow
        chosen = type(self)(self.encoder, self.triplets[index], target=self.target)
        chosen._fixed = None if self._fixed is None else self._fixed[index]
        return chosen

    def __call__(self, x: Tensor) -> Tensor:
        """[B, K] what ``answers`` says of the triplets with the changed pixels x [B, k * 3, H, W]."""
        fixed = self._embed_fixed()
        moving = PERTURBED[self.target]

        def head(z: Tensor) -> Tensor:
            images: list[Tensor] = [z] * 3
            for column, number in enumerate(moving):
                images[number] = unit(z).unflatten(0, (-1, len(moving)))[:, column]
            for column, number in enumerate(n for n in range(3) if n not in moving):
                images[number] = fixed[:, column]
            return self.answers(images)

        with noise.parts(moving):
            return self.encoder.logits(apart(x, len(moving)), head)

    def answers(self, images: list[Tensor]) -> Tensor:
        """[B, 2] cosines of left and right to the reference, of the three images' embeddings [B, D] of length 1."""
        return torch.stack([(images[0] * images[1]).sum(-1), (images[0] * images[2]).sum(-1)], dim=1)

    def with_pixels(self, x: Tensor) -> Tensor:
        """[B, 3, 3, H, W] the triplets with the changed pixels x [B, k * 3, H, W] in their places."""
        triplets = self.triplets.clone()
        moving = list(PERTURBED[self.target])
        triplets[:, moving] = x.unflatten(1, (len(moving), -1))
        return triplets

    def _embed_fixed(self) -> Tensor:
        """[B, 3 - k, D] of length 1; computed once, or at every look where the encoder draws noise."""
        still = [number for number in range(3) if number not in PERTURBED[self.target]]
        if not still:
            return self.triplets.new_empty(len(self.triplets), 0)
        if self._fixed is not None:
            return self._fixed
        with torch.no_grad(), noise.parts(still):
            z = self.encoder.encode_image(self.triplets[:, still].flatten(0, 1))
        fixed = unit(z).unflatten(0, (-1, len(still)))
        if not getattr(self.encoder, "random", False):
            self._fixed = fixed
        return fixed


def perturbed(triplets: Tensor, target: Target) -> Tensor:
    """[B, k * 3, H, W] the images of the triplets [B, 3, 3, H, W] that an attacker may change."""
    check_choice("target", target, Target)
    return triplets[:, list(PERTURBED[target])].flatten(1, 2)


def threat_of(target: Target, threat: Threat) -> Threat:
    """The threat where ``eps`` holds for each image that may be changed.

    Raises:
        ValueError: several images under l1.
    """
    check_choice("target", target, Target)
    images = len(PERTURBED[target])
    return threat if images == 1 else JointThreat(threat.norm, threat.eps, images=images)
