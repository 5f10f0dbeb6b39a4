"""How likely the prior finds an embedding: what purification climbs, detection reads and a foreign encoder lowers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from modules import noise
from modules.prior.transformer import TextPrefix

if TYPE_CHECKING:
    from modules.prior.diffusion import DiffusionPrior


def timesteps_between(total: int, t_min: float, t_max: float) -> tuple[int, int]:
    """First and last timestep of a range that is given as fractions of the schedule; never empty.

    Raises:
        ValueError: the range is.
    """
    if not 0 <= t_min < t_max <= 1:
        raise ValueError(f"timesteps from t_min={t_min} to t_max={t_max}: say 0 <= t_min < t_max <= 1")
    first = math.floor(t_min * total)
    return first, max(first, math.ceil(t_max * total) - 1)


def log_likelihood(
    prior: DiffusionPrior,
    z_unit: Tensor,
    prefix: TextPrefix,
    *,
    draws: int = 8,
    t_min: float = 0.0,
    t_max: float = 1.0,
    stream: str = "prior/likelihood",
) -> Tensor:
    """[B] minus the mean denoising error: a surrogate of log p(z | text), differentiable in z.

    The evidence lower bound without its weights over t (arXiv:2006.11239, eq. 14), stratified: of the timesteps'
    ``draws`` equal parts every one is visited once.  Noise belongs to the sample.  Comparable between embeddings of
    one prior, not between priors.

    Args:
        prior: of this encoder's embeddings.
        z_unit: [B, D] unit image embeddings.
        prefix: of ``prior.text_prefix``; that of no text gives log p(z).
        draws: noisy looks.
        t_min: first timestep, as a fraction of the schedule.
        t_max: end of the timesteps.
        stream: of the noise.

    Raises:
        ValueError: no draws, or an empty range.
    """
    if draws < 1:
        raise ValueError(f"draws={draws}: must be at least 1")
    first, last = timesteps_between(prior.noise_scheduler.timesteps, t_min, t_max)
    errors = []
    for i in range(draws):
        place = (i + noise.uniform(z_unit.detach(), f"{stream}/{i}/t", ())) / draws
        t = (first + place * (last - first + 1)).long().clamp(first, last)
        eps = noise.normal(z_unit.detach(), f"{stream}/{i}/eps")
        errors.append(prior.denoising_error(z_unit, t, eps, None, prefix=prefix))
    return -torch.stack(errors).mean(dim=0)


@torch.no_grad()
def reference_likelihood(prior: DiffusionPrior, z_unit: Tensor, *, batch: int = 256) -> dict[str, float]:
    """``mean``, ``std`` and ``n`` of log p(z), over embeddings [N, D] of one encoder.

    What a prior remembers of its own encoder; without text, so that any images can be compared.  Empty for a prior
    that never learnt to do without.
    """
    if not prior.net.textless:
        return {}
    prefix = prior.text_prefix(None)
    values = torch.cat([log_likelihood(prior, part, prefix) for part in z_unit.split(batch)]).double()
    return {"mean": float(values.mean()), "std": float(values.std(correction=0)), "n": len(values)}
