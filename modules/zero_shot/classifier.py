"""An encoder and a head: pixels in, logits out."""

from __future__ import annotations

from torch import Tensor, nn

from modules.encoders.base import ImageEncoder
from modules.zero_shot.head import ZeroShotHead


class ZeroShotClassifier(nn.Module):
    """Zero-shot classification with any encoder, bare, fine-tuned or defended.

    Args:
        encoder: pixels [B, 3, H, W] -> embeddings [B, D].
        head: embeddings [B, D] -> logits [B, K].
    """

    def __init__(self, encoder: ImageEncoder, head: ZeroShotHead, /) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K] of x [B, 3, H, W] in [0, 1]."""
        return self.encoder.logits(x, self.head)
