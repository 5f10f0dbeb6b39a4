"""The stack of layers inside the prior's network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from modules.prior.attention import Attention, KeysValues
from modules.prior.layers import FeedForward, LayerNorm
from modules.prior.positions import RelativeBias

TextPrefix = Sequence[KeysValues]  # of every layer


class CausalTransformer(nn.Module):
    """Residual attention and feed-forward layers, a final norm and a projection.

    Args:
        dim: D, the width.
        layers: the (attention, feed-forward) pairs.
        heads: H.
        norm_in: normalise what enters.
        norm_out: normalise what leaves the last layer.
    """

    def __init__(
        self,
        dim: int,
        layers: Sequence[tuple[Attention, FeedForward]],
        *,
        heads: int,
        norm_in: bool,
        norm_out: bool,
    ) -> None:
        super().__init__()
        self.init_norm = LayerNorm(dim) if norm_in else nn.Identity()
        self.rel_pos_bias = RelativeBias(heads)
        self.layers = nn.ModuleList(nn.ModuleList(layer) for layer in layers)
        self.norm = LayerNorm(dim, stable=True) if norm_out else nn.Identity()
        self.project_out = nn.Linear(dim, dim, bias=False)

    def forward(self, x_BND: Tensor, past: TextPrefix | None = None) -> tuple[Tensor, list[KeysValues]]:
        """[B, N, D], and the keys and values of all tokens so far, per layer."""
        start = 0 if past is None else past[0][0].shape[1] - 1
        bias_HNM = self.rel_pos_bias(start, x_BND.shape[1])
        x_BND = self.init_norm(x_BND)
        seen: list[KeysValues] = []
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, nn.ModuleList)
            attention, feed_forward = layer
            out_BND, keys_values = attention(x_BND, bias_HNM, None if past is None else past[i])
            x_BND = x_BND + out_BND
            x_BND = x_BND + feed_forward(x_BND)
            seen.append(keys_values)
        return self.project_out(self.norm(x_BND)), seen
