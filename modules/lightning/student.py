"""How an encoder computes while it is trained: with fewer activations kept, or compiled."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.encoders.base import ImageEncoder


def keep_fewer_activations(encoder: ImageEncoder) -> None:
    """Have the towers of an encoder compute their blocks' activations anew in the backward pass (arXiv:1604.06174).

    Memory of a pass falls to about one activation a block; time grows by about a third.

    Raises:
        ValueError: the architecture cannot.
    """
    kinds = {type(module).__name__ for module in encoder.modules()}
    if "CustomResidualAttentionBlock" in kinds:  # open_clip 3.3 hands its custom blocks more than they take
        raise ValueError("trainer.checkpointing: open_clip cannot compute custom blocks anew; leave it out")
    towers = [tower for tower in encoder.children() if hasattr(tower, "set_grad_checkpointing")]
    for tower in towers:
        tower.set_grad_checkpointing(True)  # pyright: ignore[reportCallIssue]
    if not any(getattr(module, "grad_checkpointing", False) for module in encoder.modules()):
        kind = ", ".join(type(tower).__name__ for tower in encoder.children())
        raise ValueError(f"trainer.checkpointing: a {kind} cannot compute activations anew; leave it out")


class Compiled(ImageEncoder):
    """An encoder whose passes are compiled; the encoder itself stays as it was, for what differentiates twice.

    Args:
        encoder: its weights are used, and are no part of this module.
        backend: of ``torch.compile``.
    """

    def __init__(self, encoder: ImageEncoder, /, *, backend: str = "inductor") -> None:
        super().__init__()
        self.embedding_dim, self.image_size = encoder.embedding_dim, encoder.image_size
        self._encode = torch.compile(encoder.encode_image, backend=backend, dynamic=False)

    def encode_image(self, x: Tensor) -> Tensor:
        """Embeddings [B, D] of x [B, 3, H, W] in [0, 1]."""
        return self._encode(x)
