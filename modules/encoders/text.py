"""The text tower of a CLIP: strings in, embeddings and token states out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TextEncoder(nn.Module):
    """An open_clip text tower that takes strings; always frozen.

    Args:
        model: open_clip's model, its image tower taken out.
        tokenizer: returns what turns strings into token ids [N, L]; called where the first text is read, for some
            tokenizers have to be fetched, and an image tower alone needs none.
    """

    def __init__(self, model: nn.Module, tokenizer: Callable[[], Any], /) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self._open_tokenizer = tokenizer

    @cached_property
    def tokenizer(self) -> Any:
        """Strings -> token ids [N, L].

        Raises:
            ValueError: it cannot be had.
        """
        return self._open_tokenizer()

    @property
    def tower(self) -> Any:
        """The module that holds the text layers: a child in some of open_clip's classes, the model itself in others."""
        return getattr(self.model, "text", self.model)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return token ids [N, L] on the tower's device.

        Raises:
            ValueError: the tokenizer cannot be had, or is another tower's.
        """
        ids = self.tokenizer(list(texts))
        known = int(getattr(self.tower, "vocab_size", 0) or ids.max() + 1)
        if int(ids.max()) >= known:
            raise ValueError(
                f"the tokenizer gives token {int(ids.max())}, and the text tower knows only {known} tokens"
            )
        return ids.to(next(self.model.parameters()).device)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return embeddings [N, D], L2-normalised."""
        z: Tensor = self.model.encode_text(self.tokenize(texts))  # pyright: ignore[reportCallIssue]
        return F.normalize(z.float(), dim=-1)

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return embeddings [N, D], L2-normalised, and token states [N, L, D_text], of one pass.

        States are those after the final LayerNorm (of Hugging Face's towers the last hidden ones), zero at tokens
        behind each text's end (DALL-E 2's prior).
        """
        caught: list[Any] = []
        hook = self.tower.transformer.register_forward_hook(lambda _module, _inputs, output: caught.append(output))
        try:
            ids = self.tokenize(texts)
            z: Tensor = self.model.encode_text(ids)  # pyright: ignore[reportCallIssue]
        finally:
            hook.remove()
        states = getattr(caught[0], "last_hidden_state", caught[0])[:, : ids.shape[1]]  # CoCa appends a class token
        if hasattr(self.tower, "ln_final"):
            states = self.tower.ln_final(states)
        return F.normalize(z.float(), dim=-1), states.float() * self.present(ids)[..., None]

    def token_states(self, texts: Sequence[str]) -> Tensor:
        """Return states [N, L, D_text] of the text tokens, as in ``read``."""
        return self.read(texts)[1]

    def present(self, ids: Tensor) -> Tensor:
        """Return [N, L], whether a token of ids [N, L] belongs to its text, as the tower itself sees it.

        CLIP's end token has the largest id, or one that the tower names; towers that mask padding name its id; a tower
        with neither (SigLIP) reads its padding like words, and all of it belongs.
        """
        tower = self.tower
        pool = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
        config = getattr(tower, "config", None)
        if config is not None:
            return ids != config.pad_token_id
        if getattr(tower, "cls_emb", None) is not None:
            return ids != tower.pad_id
        if pool not in ("argmax", "eos"):
            return torch.ones_like(ids, dtype=torch.bool)
        eos = getattr(tower, "text_eos_id", getattr(tower, "eos_id", None))
        end = ids.argmax(dim=1) if pool == "argmax" else (ids == eos).int().argmax(dim=1)
        return torch.arange(ids.shape[1], device=ids.device)[None] <= end[:, None]
