"""Reverse diffusion: from noise to an embedding, given any predictor of x_0."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.prior.schedule import NoiseSchedule

Denoiser = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # (x_t [B, D], t [B], earlier x_0) -> x_0 [B, D]
Sampler = Callable[[Tensor, str], Tensor]  # (like [B, D], stream of the noise) -> x_0 [B, D]


def sampler(denoise: Denoiser, schedule: NoiseSchedule, *, steps: int, eta: float, legacy_levels: bool) -> Sampler:
    """``ddpm`` where steps = T, and ``ddim`` below; arguments as there.

    Raises:
        ValueError: steps or eta are out of range.
    """
    if not 2 <= steps <= schedule.timesteps:
        raise ValueError(f"steps={steps}: must be in 2..{schedule.timesteps}, the prior's own steps")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta={eta}: must be in [0, 1]")
    if steps == schedule.timesteps:
        return lambda like, stream: ddpm(denoise, schedule, like, stream=stream)
    return lambda like, stream: ddim(
        denoise, schedule, like, steps=steps, eta=eta, stream=stream, legacy_levels=legacy_levels
    )


def nearest(draw: Sampler, text: Tensor, *, count: int, stream: str) -> Tensor:
    """[B, D] of ``count`` samples per row the one nearest to text [B, D] in angle.

    Raises:
        ValueError: count is below 1.
    """
    if count < 1:
        raise ValueError(f"best_of={count}: must be at least 1")
    best, best_similarity = text, torch.full_like(text[:, 0], -torch.inf)
    for i in range(count):
        x = draw(text, f"{stream}/{i}")
        similarity = F.cosine_similarity(x, text, dim=-1)
        better = ~(similarity <= best_similarity)  # so that NaN shows, and not the text
        best = torch.where(better[:, None], x, best)
        best_similarity = torch.where(better, similarity, best_similarity)
    return best


def ddim_grid(timesteps: int, steps: int) -> list[int]:
    """The descending steps DDIM visits; the last is -1, so ``steps - 1`` network calls remain."""
    grid = torch.linspace(-1, timesteps, steps + 1, dtype=torch.float32, device="cpu")[:-1]
    return grid.to(torch.int64).flip(0).tolist()


def ddpm(denoise: Denoiser, schedule: NoiseSchedule, like: Tensor, *, stream: str) -> Tensor:
    """[B, D] samples by all T steps of ancestral sampling (arXiv:2006.11239, alg. 2).

    Args:
        denoise: predicts x_0.
        schedule: the noise of every step.
        like: [B, D], gives the shape and, where no samples are named, their names.
        stream: of the noise.
    """
    x0: Tensor | None = None
    x = noise.normal(like, f"{stream}/start")
    for step in reversed(range(schedule.timesteps)):
        t = torch.full((len(x),), step, device=x.device)
        x0 = denoise(x, t, x0)
        x, _, log_variance = schedule.posterior(x0, x, t)
        if step > 0:
            x = x + (0.5 * log_variance).exp() * noise.normal(like, f"{stream}/{step}")
    return x


def ddim(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    like: Tensor,
    *,
    steps: int,
    eta: float,
    stream: str,
    legacy_levels: bool = False,
) -> Tensor:
    """[B, D] samples by fewer steps (arXiv:2010.02502, eq. 12).

    DALLE2-pytorch reads the levels from ``alphas_cumprod_prev``, one step off what the network is
    told, and the error adds up: Gaussian data of mean 2 and spread 0.5 come out with 2.26 and 0.42
    after 250 steps.  Here the two agree, unless ``legacy_levels`` are asked for.

    Args:
        denoise: predicts x_0.
        schedule: the noise of every step.
        like: [B, D], gives the shape and, where no samples are named, their names.
        steps: length of the grid.
        eta: 0 is deterministic given the start, 1 is as noisy as DDPM.
        stream: of the noise.
        legacy_levels: read the levels as DALLE2-pytorch does.
    """
    levels = schedule.alphas_cumprod_prev if legacy_levels else schedule.alphas_cumprod
    x0: Tensor | None = None
    x = noise.normal(like, f"{stream}/start")
    grid = ddim_grid(schedule.timesteps, steps)
    for step, following in zip(grid[:-1], grid[1:], strict=True):
        t = torch.full((len(x),), step, device=x.device)
        x0 = denoise(x, t, x0)
        if following < 0:
            return x0
        eps = schedule.eps_from_x0(x, t, x0)
        kept, kept_next = (levels[i].to(x.dtype) for i in (step, following))
        fresh = eta * ((1 - kept / kept_next) * (1 - kept_next) / (1 - kept)).clamp(min=0).sqrt()
        reused = (1 - kept_next - fresh**2).clamp(min=0).sqrt()
        x = x0 * kept_next.sqrt() + reused * eps
        if eta > 0:
            x = x + fresh * noise.normal(like, f"{stream}/{following}")
    return x
