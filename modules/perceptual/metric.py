"""How far apart an encoder sees two images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.encoders.base import ImageEncoder
from modules.perturb.losses import at_least_single, cosine_distance


class PerceptualMetric(nn.Module):
    """One minus the cosine of two images' embeddings (R-CLIP_F, arXiv:2502.11725), in [0, 2].

    Differentiable in both images and the weights, for any encoder: fine-tuned, defended, or an ``Ensemble``::

        metric = PerceptualMetric(load_clip("ViT-B-32", "laion2b_s34b_b79k").image.freeze())
        distance = metric(x, y)  # [B], of images [B, 3, H, W] in [0, 1]

    Args:
        encoder: pixels to embeddings.
    """

    def __init__(self, encoder: ImageEncoder, /) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """[B] distances of the images a and b, each [B, 3, H, W] in [0, 1]; one of them may be a single image.

        Raises:
            ValueError: the images do not have the encoder's size, or there are different numbers of them.
        """
        if len(a) != len(b) and 1 not in (len(a), len(b)):
            raise ValueError(f"{len(a)} images cannot be paired with {len(b)}; give as many, or one")
        return cosine_distance(self.embed(a), self.embed(b))

    def pairwise(self, a: Tensor, b: Tensor, *, chunk: int = 64) -> Tensor:
        """[N, M] distances of every image of a [N, 3, H, W] to every image of b [M, 3, H, W].

        Args:
            a: images in [0, 1].
            b: images in [0, 1].
            chunk: images that are encoded at once.
        """
        za, zb = (torch.cat([self.embed(part) for part in x.split(chunk)]) for x in (a, b))
        return 1 - unit(za) @ unit(zb).T

    def embed(self, x: Tensor) -> Tensor:
        """[B, D] embeddings, in single precision at least; x: [B, 3, H, W] in [0, 1].

        Raises:
            ValueError: the images do not have the encoder's size.
        """
        size = self.encoder.image_size
        if x.dim() != 4 or x.shape[1:] != (3, size, size):
            raise ValueError(f"images are {list(x.shape)}; this encoder looks at [B, 3, {size}, {size}]: resize them")
        return at_least_single(self.encoder.encode_image(x))


def unit(z: Tensor) -> Tensor:
    """Embeddings [..., D] of length 1, in single precision at least."""
    return F.normalize(at_least_single(z), dim=-1)
