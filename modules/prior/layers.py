"""The layers of the prior's transformer that know nothing of positions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm(nn.Module):
    """Layer norm with a gain ``g`` and no bias; eps is 1e-5, and 1e-3 in half precision.

    Args:
        dim: D, the width.
        stable: divide each row by its largest entry first, so that half precision cannot overflow.
    """

    def __init__(self, dim: int, *, stable: bool = False) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(dim))
        self.stable = stable

    def forward(self, x: Tensor) -> Tensor:
        """Normalised rows, x: [..., D]."""
        if self.stable:
            x = x / x.amax(dim=-1, keepdim=True).detach()
        eps = 1e-3 if x.dtype in (torch.float16, torch.bfloat16) else 1e-5
        return F.layer_norm(x, self.g.shape, self.g, None, eps)


class SwiGLU(nn.Module):
    """The first half of the channels, gated by the SiLU of the second (arXiv:2002.05202)."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] from x [..., 2 D]."""
        value, gate = x.chunk(2, dim=-1)
        return value * F.silu(gate)


class FeedForward(nn.Sequential):
    """Pre-norm gated feed-forward block, with NormFormer's second norm (arXiv:2110.09456) if asked.

    Args:
        dim: D, the width.
        mult: hidden width over D.
        normformer: normalise the hidden layer too.
        dropout: of the hidden layer.
        stable: of the norms.
    """

    def __init__(self, dim: int, *, mult: int, normformer: bool, dropout: float, stable: bool = False) -> None:
        hidden = mult * dim
        super().__init__(
            LayerNorm(dim, stable=stable),
            nn.Linear(dim, 2 * hidden, bias=False),
            SwiGLU(),
            LayerNorm(hidden, stable=stable) if normformer else nn.Identity(),
            nn.Dropout(dropout),
            nn.Linear(hidden, dim, bias=False),
        )


class SinusoidalTime(nn.Module):
    """Sines and cosines of the step at geometric frequencies, where there is no table of steps."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, t: Tensor) -> Tensor:
        """[B, D] from steps t [B]."""
        half = self.dim // 2
        ladder = torch.arange(half, device=t.device, dtype=torch.float32) / max(half - 1, 1)
        angles = t.to(torch.float32)[:, None] * torch.exp(-math.log(10000) * ladder)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class TimeMLP(nn.Module):
    """Two SiLU layers and a linear one, from D to n D, hidden width 2 n D."""

    def __init__(self, dim: int, dim_out: int) -> None:
        super().__init__()
        hidden = 2 * dim_out
        self.net = nn.Sequential(
            nn.Sequential(nn.Linear(dim, hidden), nn.SiLU()),
            nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU()),
            nn.Linear(hidden, dim_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, n D] from x [B, D]."""
        return self.net(x.to(next(self.parameters()).dtype))
