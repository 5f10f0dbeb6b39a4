"""Causal attention with one shared key/value head, a learned null key and cosine logits."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.choices import check_choice
from modules.prior.layers import LayerNorm
from modules.prior.positions import Rotary

AttentionKind = Literal["cosine", "dot"]
KeysValues = tuple[Tensor, Tensor]  # both [B or 1, 1 + N, E], the null's column first


class Attention(nn.Module):
    """Multi-query attention (arXiv:1911.02150) between two layer norms, with a learned null key.

    ``dot`` divides the dot product by sqrt(E) once.  DALLE2-pytorch 1.15.6 does so twice in that
    mode, but the releases that trained with it did so once.

    Args:
        dim: D, the width.
        heads: H query heads.
        dim_head: E channels per head.
        rotary: the rotary embedding of all layers, or None.
        attention: logits are 16 cos(q, k), or q k / sqrt(E).
        dropout: of the attention weights.
        stable: of the norms.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        dim_head: int,
        rotary: Rotary | None,
        attention: AttentionKind,
        dropout: float,
        stable: bool = False,
    ) -> None:
        check_choice("attention", attention, AttentionKind)
        super().__init__()
        self.heads, self.attention = heads, attention
        self.null_kv = nn.Parameter(torch.randn(2, dim_head))
        self.norm = LayerNorm(dim, stable=stable)
        self.dropout = nn.Dropout(dropout)
        self.to_q = nn.Linear(dim, heads * dim_head, bias=False)
        self.to_kv = nn.Linear(dim, 2 * dim_head, bias=False)
        self.rotary_emb = rotary
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim, bias=False), LayerNorm(dim, stable=stable))

    def forward(
        self, x_BND: Tensor, bias: Tensor, past: KeysValues | None = None, *, queries: int | None = None
    ) -> tuple[Tensor, KeysValues]:
        """[B, N, D], and the keys and values of all tokens so far.

        Args:
            x_BND: N consecutive tokens.
            bias: [H, N, M] or [B, H, N, M], -inf where a query must not look; M = 1 + past tokens + N.
            past: keys and values of the tokens before these, from an earlier call.
            queries: how many of the tokens ask, the last ones; the answer is as many long.
        """
        B, start = len(x_BND), 0 if past is None else past[0].shape[1] - 1
        silent = 0 if queries is None else x_BND.shape[1] - queries
        x_BND, bias = self.norm(x_BND), bias[..., silent:, :]
        q_BHNE = self.to_q(x_BND[:, silent:]).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k_BNE, v_BNE = self.to_kv(x_BND).chunk(2, dim=-1)
        if self.rotary_emb is not None:
            q_BHNE, k_BNE = self.rotary_emb(q_BHNE, start + silent), self.rotary_emb(k_BNE, start)
        q_BHNE, k_BNE = self._scaled(q_BHNE), self._scaled(k_BNE)

        if past is None:
            null_k, null_v = self.null_kv.to(k_BNE.dtype)
            past = self._scaled(null_k).expand(1, 1, -1), null_v.expand(1, 1, -1)
        k_BME = torch.cat([past[0].expand(B, -1, -1), k_BNE], dim=1)
        v_BME = torch.cat([past[1].expand(B, -1, -1), v_BNE], dim=1)

        # Written out: fused kernels have no second derivative, which exact-gradient attacks need.
        logits_BHNM = torch.einsum("bhne,bme->bhnm", q_BHNE, k_BME) + bias
        weights = logits_BHNM.softmax(dim=-1, dtype=_wide(logits_BHNM)).to(v_BME.dtype)
        out_BHNE = torch.einsum("bhnm,bme->bhne", self.dropout(weights), v_BME)
        return self.to_out(out_BHNE.transpose(1, 2).flatten(-2)), (k_BME, v_BME)

    def _scaled(self, x: Tensor) -> Tensor:
        """Queries or keys whose plain dot products are the logits; x: [..., E]."""
        if self.attention == "cosine":
            return 4 * F.normalize(x, dim=-1)
        return x * x.shape[-1] ** -0.25


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
