"""CLIPure-Diff as it was released, kept to reproduce what it does and to show why its numbers cannot be read."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.prior.diffusion import DiffusionPrior

DROP = 0.1  # of text and of image, at test time: the reference's setting of it has no effect
T_FIRST, T_LAST = 0.9, 0.999  # of the schedule


class LegacyDescent:
    """Ten steps of length 30 down one denoising error of a whole batch, in units of the batch's gradient.

    One timestep for the batch; the pooled text embedding in the place of every token state; text and image dropped at
    random; the direction of every step a constant to who differentiates (``detached``).  The released tower is in half
    precision, which what is left of the gradient does not survive.

    Args:
        prior: frozen.
        text: [D] mean of the normalised blank templates.
        batch: neighbours that share timestep and norm.
    """

    def __init__(self, prior: DiffusionPrior, text: Tensor, batch: int) -> None:
        self.prior, self.text, self.batch = prior, text.detach(), batch
        total = prior.noise_scheduler.timesteps
        self.t_first, self.t_last = math.floor(T_FIRST * total), max(math.floor(T_LAST * total), 0)

    def purify(self, z: Tensor, *, steps: int, step_size: float, detached: bool) -> Tensor:
        """[B, D] unit latents after the loop.

        Args:
            z: [B, D] latents.
            steps: n.
            step_size: s.
            detached: hand out the released gradient, and not the whole one.
        """
        exact = torch.is_grad_enabled() and z.requires_grad and not detached
        u = F.normalize(z.half().to(z.dtype) if detached else z, dim=1)
        for step in range(steps):
            with torch.enable_grad():
                leaf = u if exact else u.detach().requires_grad_()
                error = self._error(leaf, z, f"clipure_diff/{step}")
                (grad,) = torch.autograd.grad(error.sum(), leaf, create_graph=exact)
            lengths = [part.norm().expand(len(part), 1) for part in grad.split(self.batch)]
            u = F.normalize(u - step_size * grad / torch.cat(lengths).clamp_min(1e-12), dim=1)
        return u

    def _error(self, u: Tensor, key: Tensor, stream: str) -> Tensor:
        """[B] denoising errors, the share of each sample in its batch's mean; noise named by ``key``."""
        prior = self.prior
        own = noise.integers(key, f"{stream}/t", self.t_first, self.t_last)
        t = own[torch.arange(len(u), device=u.device) // self.batch * self.batch]
        x0 = prior.scale * u
        x_t = prior.noise_scheduler.add_noise(x0, t, noise.normal(key, f"{stream}/eps"))
        text = self.text.to(u).expand(len(u), -1)
        answer = prior.net(
            x_t,
            t,
            text,
            text[:, None].expand(-1, prior.net.max_text_len, -1),
            keep_text=noise.uniform(key, f"{stream}/text", ()) < 1 - DROP,
            keep_image=noise.uniform(key, f"{stream}/image", ()) < 1 - DROP,
        )
        return (prior.x0_of(answer, x_t, t) - x0).square().mean(dim=-1)
