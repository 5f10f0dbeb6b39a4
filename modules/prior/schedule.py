"""How much noise each diffusion step holds, and the closed forms that follow from it."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.choices import check_choice

ScheduleKind = Literal["cosine", "linear", "quadratic", "sigmoid", "jsd"]


def _betas(kind: ScheduleKind, timesteps: int) -> Tensor:
    """[T] float64 variances of the single steps."""
    if kind == "cosine":
        grid = torch.linspace(0, 1, timesteps + 1, dtype=torch.float64)
        level = torch.cos((grid + 0.008) / 1.008 * (math.pi / 2)) ** 2
        return (1 - level[1:] / level[:-1]).clamp(0, 0.999)
    if kind == "jsd":
        return 1 / torch.linspace(timesteps, 1, timesteps, dtype=torch.float64)
    # The two ends were chosen for 1000 steps; fewer steps must each hold more noise.
    first, last = 0.1 / timesteps, 20 / timesteps
    if kind == "linear":
        return torch.linspace(first, last, timesteps, dtype=torch.float64)
    if kind == "quadratic":
        return torch.linspace(first**0.5, last**0.5, timesteps, dtype=torch.float64) ** 2
    ramp = torch.sigmoid(torch.linspace(-6, 6, timesteps, dtype=torch.float64))
    return first + (last - first) * ramp


class NoiseSchedule(nn.Module):
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, and its inverses (arXiv:2006.11239).

    All tables [T] are computed in float64 and stored in float32, under the names of
    DALLE2-pytorch's checkpoints.  The cosine schedule is arXiv:2102.09672, eq. 17.

    Args:
        timesteps: T, the number of diffusion steps.
        kind: how the noise grows with the step.
    """

    betas: Tensor
    alphas_cumprod: Tensor
    alphas_cumprod_prev: Tensor
    sqrt_alphas_cumprod: Tensor
    sqrt_one_minus_alphas_cumprod: Tensor
    log_one_minus_alphas_cumprod: Tensor
    sqrt_recip_alphas_cumprod: Tensor
    sqrt_recipm1_alphas_cumprod: Tensor
    posterior_variance: Tensor
    posterior_log_variance_clipped: Tensor
    posterior_mean_coef1: Tensor
    posterior_mean_coef2: Tensor
    p2_loss_weight: Tensor

    def __init__(self, *, timesteps: int = 1000, kind: ScheduleKind = "cosine") -> None:
        check_choice("noise schedule kind", kind, ScheduleKind)
        super().__init__()
        if timesteps < 2 or (kind in ("linear", "quadratic", "sigmoid") and timesteps <= 20):
            least = 2 if kind in ("cosine", "jsd") else 21
            raise ValueError(f"timesteps={timesteps}: the {kind} schedule needs at least {least}")
        self.timesteps = timesteps
        self.kind: ScheduleKind = kind
        for name, table in self._tables(_betas(kind, timesteps)).items():
            self.register_buffer(name, table.to(torch.float32))

    @staticmethod
    def _tables(betas: Tensor) -> dict[str, Tensor]:
        kept = torch.cumprod(1 - betas, dim=0)
        kept_before = F.pad(kept[:-1], (1, 0), value=1.0)
        variance = betas * (1 - kept_before) / (1 - kept)
        return {
            "betas": betas,
            "alphas_cumprod": kept,
            "alphas_cumprod_prev": kept_before,
            "sqrt_alphas_cumprod": kept.sqrt(),
            "sqrt_one_minus_alphas_cumprod": (1 - kept).sqrt(),
            "log_one_minus_alphas_cumprod": (1 - kept).log(),
            "sqrt_recip_alphas_cumprod": (1 / kept).sqrt(),
            "sqrt_recipm1_alphas_cumprod": (1 / kept - 1).sqrt(),
            "posterior_variance": variance,
            "posterior_log_variance_clipped": variance.clamp(min=1e-20).log(),
            "posterior_mean_coef1": betas * kept_before.sqrt() / (1 - kept),
            "posterior_mean_coef2": (1 - kept_before) * (1 - betas).sqrt() / (1 - kept),
            "p2_loss_weight": torch.ones_like(betas),
        }

    @staticmethod
    def _at(table: Tensor, t: Tensor, like: Tensor) -> Tensor:
        """The table's entries at t [B], shaped to multiply ``like`` [B, ...]."""
        return table[t].to(like.dtype).view(-1, *[1] * (like.ndim - 1))

    def add_noise(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t [B, D] from x_0 [B, D], the step t [B] and standard normal eps [B, D]."""
        kept = self._at(self.sqrt_alphas_cumprod, t, x0)
        return kept * x0 + self._at(self.sqrt_one_minus_alphas_cumprod, t, x0) * eps

    def velocity(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """v [B, D] = sqrt(abar) eps - sqrt(1 - abar) x_0 (arXiv:2202.00512)."""
        kept = self._at(self.sqrt_alphas_cumprod, t, x0)
        return kept * eps - self._at(self.sqrt_one_minus_alphas_cumprod, t, x0) * x0

    def x0_from_eps(self, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_0 [B, D] that becomes x_t under this eps."""
        grown = self._at(self.sqrt_recip_alphas_cumprod, t, x_t)
        return grown * x_t - self._at(self.sqrt_recipm1_alphas_cumprod, t, x_t) * eps

    def x0_from_velocity(self, x_t: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """x_0 [B, D] that becomes x_t under this velocity."""
        kept = self._at(self.sqrt_alphas_cumprod, t, x_t)
        return kept * x_t - self._at(self.sqrt_one_minus_alphas_cumprod, t, x_t) * v

    def eps_from_x0(self, x_t: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        """eps [B, D] that takes x_0 to x_t."""
        grown = self._at(self.sqrt_recip_alphas_cumprod, t, x_t)
        return (grown * x_t - x0) / self._at(self.sqrt_recipm1_alphas_cumprod, t, x_t)

    def posterior(self, x0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean [B, D], variance [B, 1] and clipped log variance [B, 1] of x_(t-1) | x_0, x_t."""
        mean = self._at(self.posterior_mean_coef1, t, x_t) * x0
        mean = mean + self._at(self.posterior_mean_coef2, t, x_t) * x_t
        variance = self._at(self.posterior_variance, t, x_t)
        return mean, variance, self._at(self.posterior_log_variance_clipped, t, x_t)
