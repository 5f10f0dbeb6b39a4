"""The stack of layers inside the prior's network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.choices import check_choice
from modules.prior.attention import Attention, KeysValues
from modules.prior.layers import FeedForward, LayerNorm
from modules.prior.positions import RelativeBias

StableNorm = Literal["last", "all", "none"]  # which norms divide by the row's largest entry first


class TextPrefix(NamedTuple):
    """What the layers keep of the tokens they have read.

    Attributes:
        layers: keys and values of every layer.
        hidden: [B or 1, N] bool, tokens that no later token may look at; None for none.
    """

    layers: Sequence[KeysValues]
    hidden: Tensor | None = None

    @property
    def length(self) -> int:
        """Number of tokens read."""
        return self.layers[0][0].shape[1] - 1  # the null key stands first


class CausalTransformer(nn.Module):
    """Residual attention and feed-forward layers, a final norm and a projection.

    Args:
        dim: D, the width.
        layers: the (attention, feed-forward) pairs.
        heads: H.
        norm_in: normalise what enters.
        norm_out: normalise what leaves the last layer.
        final_proj: project what leaves.
        stable_norm: which norms are stable; those of the layers are the layers' own matter.
    """

    def __init__(
        self,
        dim: int,
        layers: Sequence[tuple[Attention, FeedForward]],
        *,
        heads: int,
        norm_in: bool,
        norm_out: bool,
        final_proj: bool = True,
        stable_norm: StableNorm = "last",
    ) -> None:
        check_choice("stable_norm", stable_norm, StableNorm)
        super().__init__()
        self.init_norm = LayerNorm(dim, stable=stable_norm == "all") if norm_in else nn.Identity()
        self.rel_pos_bias = RelativeBias(heads)
        self.layers = nn.ModuleList(nn.ModuleList(layer) for layer in layers)
        self.norm = LayerNorm(dim, stable=stable_norm != "none") if norm_out else nn.Identity()
        self.project_out = nn.Linear(dim, dim, bias=False) if final_proj else nn.Identity()

    def forward(
        self,
        x_BND: Tensor,
        past: TextPrefix | None = None,
        hidden_BN: Tensor | None = None,
    ) -> tuple[Tensor, TextPrefix]:
        """[B, D] at the last token, the only one that is read, and what to remember of all tokens so far.

        Args:
            x_BND: N consecutive tokens.
            past: what was remembered of the tokens before these.
            hidden_BN: [B, N] of these tokens, those that no token may look at.
        """
        bias = self.rel_pos_bias(0 if past is None else past.length, x_BND.shape[1])
        hidden_BN = _joined(past, hidden_BN, x_BND)
        if hidden_BN is not None:
            hidden_BM = F.pad(hidden_BN, (1, 0), value=False)
            bias = bias.masked_fill(hidden_BM[:, None, None], -math.inf)
        x_BND = self.init_norm(x_BND)
        seen: list[KeysValues] = []
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, nn.ModuleList)
            attention, feed_forward = layer
            queries = 1 if i + 1 == len(self.layers) else x_BND.shape[1]
            before = None if past is None else past.layers[i]
            out_BND, keys_values = attention(x_BND, bias, before, queries=queries)
            x_BND = x_BND[:, -queries:] + out_BND
            x_BND = x_BND + feed_forward(x_BND)
            seen.append(keys_values)
        return self.project_out(self.norm(x_BND[:, -1])), TextPrefix(seen, hidden_BN)


def _joined(past: TextPrefix | None, hidden_BN: Tensor | None, x_BND: Tensor) -> Tensor | None:
    """[B, past + N] bool, what is hidden of all tokens so far."""
    if hidden_BN is None and (past is None or past.hidden is None):
        return None
    B, N = x_BND.shape[:2]
    now = x_BND.new_zeros(B, N, dtype=torch.bool) if hidden_BN is None else hidden_BN
    if past is None:
        return now
    before = now.new_zeros(1, past.length) if past.hidden is None else past.hidden
    return torch.cat([before.expand(B, -1), now], dim=1)
