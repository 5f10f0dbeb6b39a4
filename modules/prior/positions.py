"""How the prior's transformer tells positions apart: rotary embedding and relative bias."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Rotary(nn.Module):
    """Rotates adjacent channel pairs by an angle that grows with the position (arXiv:2104.09864).

    Args:
        dim: number of leading channels to rotate; the others pass unchanged.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        freqs = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)
        # A parameter without gradient, as in the checkpoints; one module is shared by all layers.
        self.freqs = nn.Parameter(freqs, requires_grad=False)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Rotated x [..., N, E]; row n stands at position ``start + n``."""
        rotated = 2 * len(self.freqs)
        positions = torch.arange(start, start + x.shape[-2], device=x.device, dtype=torch.float32)
        angles = positions[:, None] * self.freqs.to(torch.float32)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        even, odd = x[..., 0:rotated:2], x[..., 1:rotated:2]
        pairs = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
        return torch.cat([pairs.flatten(-2), x[..., rotated:]], dim=-1)


def distance_bucket(distance: Tensor, *, num_buckets: int = 32, max_distance: int = 128) -> Tensor:
    """T5 bucket of distances >= 0: exact in the first half, then logarithmic (arXiv:1910.10683)."""
    exact = num_buckets // 2
    ratio = distance.clamp(min=exact).to(torch.float64) / exact
    steps = torch.log(ratio) / math.log(max_distance / exact) * (num_buckets - exact)
    far = (exact + steps.floor().to(distance.dtype)).clamp(max=num_buckets - 1)
    return torch.where(distance < exact, distance, far)


class RelativeBias(nn.Module):
    """One learned bias per head and distance bucket, shared by all layers, and the causal mask.

    Columns are counted with the null key at 0, so a token and its predecessor share bucket 0 and
    the null lies as far away as the query's index: this is how released weights were trained.

    Args:
        heads: H.
        num_buckets: rows of the table.
        max_distance: from which on all distances share the last bucket.
    """

    def __init__(self, heads: int, *, num_buckets: int = 32, max_distance: int = 128) -> None:
        super().__init__()
        self.relative_attention_bias = nn.Embedding(num_buckets, heads)
        self.num_buckets, self.max_distance = num_buckets, max_distance

    def forward(self, start: int, length: int) -> Tensor:
        """[H, N, 1 + start + N] bias of N = length queries from start on; -inf on the future."""
        table = self.relative_attention_bias.weight
        query = torch.arange(start, start + length, device=table.device)[:, None]
        column = torch.arange(1 + start + length, device=table.device)[None, :]
        bucket = distance_bucket(
            (query - column).clamp(min=0),
            num_buckets=self.num_buckets,
            max_distance=self.max_distance,
        )
        future = column >= query + 2
        return table[bucket].permute(2, 0, 1).masked_fill(future, -math.inf)
