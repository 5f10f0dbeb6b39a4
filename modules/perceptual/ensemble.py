"""Several encoders that judge together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from modules.encoders.base import ImageEncoder
from modules.perceptual.metric import unit


class Ensemble(ImageEncoder):
    """The members' normalised embeddings side by side, each as long as the root of its weight.

    So the cosine of two images is the weighted mean of the members' cosines, and an ensemble is an encoder like any
    other.  DreamSim (arXiv:2306.09344) concatenates embeddings as they are; here no member counts for its length.

    Args:
        members: encoders of one image size.
        weights: as many, positive; equal where none are said.

    Raises:
        ValueError: no members, different image sizes, or weights that are not positive or not as many.
    """

    def __init__(self, members: Sequence[ImageEncoder], /, *, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        sizes = {member.image_size for member in members}
        if len(sizes) != 1:
            raise ValueError(f"an ensemble's encoders must look at images of one size, not {sorted(sizes) or 'none'}")
        weights = [1.0] * len(members) if weights is None else list(weights)
        if len(weights) != len(members) or min(weights) <= 0:
            raise ValueError(f"{len(members)} encoders need as many weights above 0, not {weights}")
        self.members = nn.ModuleList(members)
        self.weights = [weight / sum(weights) for weight in weights]
        self.embedding_dim = sum(member.embedding_dim for member in members)
        self.image_size = sizes.pop()

    def encode_image(self, x: Tensor) -> Tensor:
        """Embeddings [B, sum of D], of length 1, of x [B, 3, H, W] in [0, 1]."""
        parts = [w**0.5 * unit(member(x)) for w, member in zip(self.weights, self.members, strict=True)]
        return torch.cat(parts, dim=-1)
