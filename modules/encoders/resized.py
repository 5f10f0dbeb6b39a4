"""An encoder that takes images at their own small size: the resize is inside, where gradients and attacks pass it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from modules.encoders.base import ImageEncoder


class Resized(ImageEncoder):
    """Another encoder behind a differentiable bicubic resize; a perturbation then lives at the small size.

    Two resizes are called bicubic.  ``antialias=True`` is Pillow's and torchvision's of today: cubic coefficient -0.5,
    and a wider filter where it shrinks.  ``antialias=False`` is what torchvision did with tensors before 0.17, as in
    FARE's released evaluation: coefficient -0.75.  They differ for enlarged images too, on noise
    by up to a tenth of the range.

    Args:
        encoder: takes images of its own size.
        size: H = W of the images that come in.
        antialias: which of the two.
    """

    def __init__(self, encoder: ImageEncoder, /, *, size: int, antialias: bool = True) -> None:
        super().__init__()
        self.encoder, self.antialias = encoder, antialias
        self.embedding_dim, self.image_size = encoder.embedding_dim, size

    def enlarge(self, x: Tensor) -> Tensor:
        """Images [B, 3, S, S] of the inner encoder's size; not clipped, so that every gradient passes.

        A bicubic filter overshoots at sharp edges, in either direction.
        """
        side = self.encoder.image_size
        if tuple(x.shape[-2:]) == (side, side):
            return x
        return F.interpolate(x, (side, side), mode="bicubic", antialias=self.antialias, align_corners=False)

    def encode_image(self, x: Tensor) -> Tensor:
        """Embeddings [B, D] of x [B, 3, H, W] in [0, 1].

        Raises:
            ValueError: images of another size than was said.
        """
        if tuple(x.shape[-2:]) != (self.image_size, self.image_size):
            raise ValueError(f"this encoder takes images of {self.image_size} pixels a side, not {list(x.shape)}")
        return self.encoder.encode_image(self.enlarge(x))
