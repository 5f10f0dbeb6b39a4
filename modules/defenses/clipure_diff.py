"""CLIPure-Diff (arXiv:2502.18176): move the latent to where the diffusion prior finds it likelier."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.defenses.base import Defense
from modules.defenses.smooth import variant
from modules.encoders.base import ImageEncoder
from modules.prior.diffusion import DiffusionPrior
from modules.prior.transformer import TextPrefix


class CLIPureDiff(Defense):
    """Descends the prior's denoising error from each latent, on the sphere, sample by sample.

    Against the released code: gradients are normalised per sample and not per batch, the noise belongs to the sample,
    the prompt is encoded as the prior was trained (token states, no dropped conditions), and the whole loop can be
    differentiated exactly (twice through the prior).

    Args:
        encoder: the encoder to defend.
        prior: trained on this encoder's embeddings.
        blank_embedding: [D] text embedding of the class-free prompt.
        blank_tokens: [1, L, D_text] its token states.
        steps: n.
        step_size: s, the length of a step before the latent returns to the sphere.
        t_min: first timestep, as a fraction of the schedule (the released code draws from 0.9 to 1).
        t_max: end of the timesteps, as a fraction.
        mc_draws: noisy looks averaged in every step.
        deterministic: the same noise for every image, instead of each image's own.
    """

    blank: Tensor
    tokens: Tensor

    def __init__(
        self,
        encoder: ImageEncoder,
        prior: DiffusionPrior,
        blank_embedding: Tensor,
        blank_tokens: Tensor,
        /,
        *,
        steps: int = 10,
        step_size: float = 0.05,
        t_min: float = 0.9,
        t_max: float = 1.0,
        mc_draws: int = 1,
        deterministic: bool = False,
    ) -> None:
        super().__init__(encoder)
        if prior.embedding_dim != encoder.embedding_dim:
            raise ValueError(
                f"the prior is for embeddings of {prior.embedding_dim} numbers, the encoder gives "
                f"{encoder.embedding_dim}; train a prior on this encoder"
            )
        if not 0 <= t_min < t_max <= 1 or steps < 0 or step_size < 0 or mc_draws < 1:
            raise ValueError(
                f"CLIPure-Diff takes 0 <= t_min < t_max <= 1, steps >= 0, step_size >= 0 and mc_draws >= 1, "
                f"not {t_min}, {t_max}, {steps}, {step_size}, {mc_draws}"
            )
        prior.eval().requires_grad_(False)
        self.prior = prior
        self.register_buffer("blank", F.normalize(blank_embedding.detach(), dim=-1), persistent=False)
        self.register_buffer("tokens", blank_tokens.detach(), persistent=False)
        self.steps, self.step_size, self.mc_draws = steps, step_size, mc_draws
        total = prior.noise_scheduler.timesteps
        self.t_first = math.floor(t_min * total)
        self.t_last = max(self.t_first, math.ceil(t_max * total) - 1)
        self.deterministic = deterministic
        self.random = self.random or not deterministic

    def purify_latent(self, z: Tensor) -> Tensor:
        """Latents [B, D] of the same lengths, moved on the sphere."""
        length = z.norm(dim=1, keepdim=True).clamp_min(1e-12)
        exact = torch.is_grad_enabled() and z.requires_grad
        u = z / length
        with torch.no_grad():  # the prompt is the same for every image and step: read it once
            prefix = self.prior.text_prefix(self.blank[None], self.tokens)
        for step in range(self.steps):
            with torch.enable_grad():
                leaf = u if exact else u.detach().requires_grad_()
                error = self._error(leaf, z, step, prefix)
                (grad,) = torch.autograd.grad(error.sum(), leaf, create_graph=exact)
                downhill = -grad / grad.norm(dim=1, keepdim=True).clamp_min(1e-12)
                u = F.normalize(leaf + self.step_size * downhill, dim=1)
            u = u if exact else u.detach()
        return length * u

    def cheaper(self) -> ImageEncoder | None:
        """A fifth of the steps, each as much longer."""
        steps = max(1, self.steps // 5)
        longer = self.step_size * self.steps / steps
        return variant(self, steps=steps, step_size=longer) if steps < self.steps else None

    def iterates(self) -> list[ImageEncoder]:
        """The defence after a third and two thirds of its steps: all of them, unrolled, are too many."""
        stops = {self.steps * third // 3 for third in (1, 2)}
        return [variant(self, steps=steps) for steps in sorted(stops) if 0 < steps < self.steps]

    def _error(self, u: Tensor, key: Tensor, step: int, prefix: TextPrefix) -> Tensor:
        """[B] mean denoising error of unit latents u [B, D] over this step's draws; noise named by ``key``."""
        errors = []
        for draw in range(self.mc_draws):
            t, eps = self._noise(key, f"clipure_diff/{step}/{draw}")
            errors.append(self.prior.denoising_error(u, t, eps, None, prefix=prefix))
        return torch.stack(errors).mean(dim=0)

    def _noise(self, key: Tensor, stream: str) -> tuple[Tensor, Tensor]:
        if self.deterministic:
            same = torch.zeros(len(key), dtype=torch.int64, device=key.device)
            with noise.samples(same):
                return self._draw(key, stream)
        return self._draw(key, stream)

    def _draw(self, key: Tensor, stream: str) -> tuple[Tensor, Tensor]:
        t = noise.integers(key, stream + "/t", self.t_first, self.t_last)
        return t, noise.normal(key, stream + "/eps")
