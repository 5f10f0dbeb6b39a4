"""What the whole project is about: pixels in, an embedding out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn


class ImageEncoder(nn.Module, ABC):
    """Maps images to embeddings.  A defended encoder is one too.

    Attributes:
        embedding_dim: D, the length of an embedding.
        image_size: H = W of the images it was built for, in pixels.
    """

    embedding_dim: int
    image_size: int

    @abstractmethod
    def encode_image(self, x: Tensor) -> Tensor:
        """Embeddings [B, D], not normalised, of x [B, 3, H, W] in [0, 1]."""

    def logits(self, x: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits [B, K] of x [B, 3, H, W] by a head that reads embeddings; what votes over looks overrides this."""
        return head(self.encode_image(x))

    def forward(self, x: Tensor) -> Tensor:
        """The same as ``encode_image``."""
        return self.encode_image(x)

    def freeze(self) -> Self:
        """Itself, in evaluation mode and with no parameter that wants a gradient."""
        return self.eval().requires_grad_(False)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Evaluation mode and no parameter gradients inside; everything as it was afterwards.

    An attack needs gradients of pixels only: without this every step would also keep what the weights' gradients need.
    """
    training = [m for m in module.modules() if m.training]
    wanting = [p for p in module.parameters() if p.requires_grad]
    module.eval()
    for parameter in wanting:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for m in training:
            m.training = True
        for parameter in wanting:
            parameter.requires_grad_(True)


class FrozenReference(ImageEncoder):
    """A frozen encoder that answers a batch once: objectives ask for the same one more than once.

    What it would answer may also be told to it beforehand; then it computes nothing, and stays where it is.

    Args:
        encoder: it is frozen.
    """

    def __init__(self, encoder: ImageEncoder, /) -> None:
        super().__init__()
        self.encoder = encoder.freeze()
        self.embedding_dim, self.image_size = encoder.embedding_dim, encoder.image_size
        self._told: tuple[Tensor, Tensor] | None = None
        self._last: tuple[Tensor, Tensor] | None = None

    def remember(self, x: Tensor, z: Tensor) -> None:
        """Answer this very tensor x [B, 3, H, W] with z [B, D] until the next one is told."""
        self._told = (x, z)

    @torch.no_grad()
    def encode_image(self, x: Tensor) -> Tensor:
        """Embeddings [B, D] of x [B, 3, H, W]; computed once for the same tensor object, where x is."""
        for known in (self._told, self._last):
            if known is not None and known[0] is x:
                return known[1]
        if any(parameter.device != x.device for parameter in self.encoder.parameters()):
            self.encoder.to(x.device)
        self._last = (x, self.encoder.encode_image(x))
        return self._last[1]
