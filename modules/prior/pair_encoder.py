"""Completes a batch to pairs of embeddings with frozen towers, where a source holds pictures or captions only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.encoders.base import ImageEncoder
from modules.encoders.clip import TextEncoder
from modules.prior.pairs import Pairs, check_pairs


class PairEncoder:
    """Pairs of a batch: what is stored is taken, what is missing is computed without a gradient.

    Not a ``torch.nn.Module``, so that the towers are no part of the prior's checkpoints.

    Args:
        image: encodes batches of pictures; None where embeddings are stored.
        text: reads captions; None where texts are stored.
        dim: D, that pairs must have.
        tokens: pairs have token states; False leaves them out.
    """

    def __init__(
        self, image: ImageEncoder | None = None, text: TextEncoder | None = None, /, *, dim: int, tokens: bool = True
    ) -> None:
        self.image = None if image is None else image.freeze()
        self.text, self.dim, self.tokens = text, dim, tokens

    def to(self, device: torch.device | str) -> PairEncoder:
        """Itself, moved."""
        for tower in (self.image, self.text):
            if tower is not None:
                tower.to(device)
        return self

    @torch.no_grad()
    def __call__(self, batch: Any) -> Pairs:
        """The checked pairs of a batch.

        Args:
            batch: ``key`` and either pixels ``x`` [B, 3, H, W] or ``image`` [B, D]; ``text`` [B, D], ``tokens``
                [B, L, D] and ``caption`` (B texts) as far as there are any.

        Raises:
            ValueError: something is missing and cannot be computed, or ``check_pairs`` refuses the embeddings.
        """
        image = getattr(batch, "image", None)
        if image is None:
            image = self._encode(batch)
        text, tokens = getattr(batch, "text", None), getattr(batch, "tokens", None)
        if text is None or (self.tokens and tokens is None):
            read, states = self._read(batch)
            text, tokens = read if text is None else text, states if tokens is None else tokens
        pairs = Pairs(
            image.float(), text.float(), tokens.float() if self.tokens and tokens is not None else None, batch.key
        )
        check_pairs(pairs, self.dim)
        return pairs

    def _encode(self, batch: Any) -> Tensor:
        if self.image is None:
            raise ValueError("the batch holds pictures and no image tower is given; name the CLIP, model.name=…")
        return F.normalize(self.image.encode_image(batch.x).float(), dim=-1)

    def _read(self, batch: Any) -> tuple[Tensor, Tensor | None]:
        """Text embeddings and token states of the captions; equal captions are read once."""
        captions: Sequence[str] | None = getattr(batch, "caption", None)
        if self.text is None or captions is None:
            lacking = "captions" if captions is None else "text embeddings or token states, and no text tower is given"
            raise ValueError(
                f"samples such as {batch.key[0]!r} have no {lacking}; name the CLIP, model.name=…, or embed again"
            )
        different = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
        if self.tokens:
            read, states = self.text.read(list(different))
        else:
            read, states = self.text.encode_text(list(different)), None
        rows = torch.tensor([different[caption] for caption in captions], device=read.device)
        return read[rows], None if states is None else states[rows]
