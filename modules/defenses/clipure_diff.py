"""CLIPure-Diff (arXiv:2502.18176): move the latent to where the diffusion prior finds it likelier."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.choices import check_choice
from modules.defenses.base import Defense
from modules.defenses.clipure_cos import Mode, angle_to, rotate
from modules.defenses.clipure_diff_legacy import LegacyDescent
from modules.defenses.smooth import unrolling, variant
from modules.encoders.base import ImageEncoder
from modules.prior.diffusion import DiffusionPrior
from modules.prior.likelihood import timesteps_between
from modules.prior.transformer import TextPrefix

Step = Literal["project", "sphere"]


class CLIPureDiff(Defense):
    """Moves each latent on the sphere to where the prior's denoising error is lower, sample by sample.

    Against the released code (``mode: legacy``, labelled as an artefact): gradients are normalised per sample and not
    per batch, the noise belongs to the sample, the prompt is encoded as the prior was trained (token states, no
    dropped conditions), it is read once for ever (its keys and values depend on nothing else), and the whole loop can
    be differentiated exactly.  ``step: sphere`` is not in the paper: it turns the latent towards the prior's own
    estimate of it and never past that, and needs no gradient of the prior.

    Args:
        encoder: the encoder to defend.
        prior: trained on this encoder's embeddings; frozen from here on.
        blank_embedding: [D] text embedding of the class-free prompt; in legacy mode the mean of the blank templates.
        blank_tokens: [1, L, D_text] the prompt's token states.
        mode: ``honest``, or ``legacy`` for the released behaviour.
        steps: n.
        step_size: s, the length of a step before the latent returns to the sphere (``project``), or the largest turn
            in radians (``sphere``); 0.05 in honest mode and 30 in legacy mode, where none is said.
        step: ``project`` descends the denoising error, as in the paper; ``sphere`` turns towards the estimate.
        t_min: first timestep, as a fraction of the schedule (the released code draws from 0.9 to 1).
        t_max: end of the timesteps, as a fraction.
        mc_draws: noisy looks averaged in every step.
        deterministic: the same noise for every image, instead of each image's own.
        conditional: read the class-free prompt; otherwise no text at all.
        guidance: 1 as trained; above, the prompt's pull away from the estimate without text.
        legacy_batch: neighbours that share one timestep and one gradient norm in legacy mode.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        prior: DiffusionPrior,
        blank_embedding: Tensor,
        blank_tokens: Tensor,
        /,
        *,
        mode: Mode = "honest",
        steps: int = 10,
        step_size: float | None = None,
        step: Step = "project",
        t_min: float = 0.9,
        t_max: float = 1.0,
        mc_draws: int = 1,
        deterministic: bool = False,
        conditional: bool = True,
        guidance: float = 1.0,
        legacy_batch: int = 2,
    ) -> None:
        check_choice("mode", mode, Mode)
        check_choice("step", step, Step)
        super().__init__(encoder)
        legacy = mode == "legacy"
        _check(locals())
        self.prior = prior.eval().requires_grad_(False)
        self.register_buffer("blank", F.normalize(blank_embedding.detach(), dim=-1), persistent=False)
        self.register_buffer("tokens", blank_tokens.detach(), persistent=False)
        self.mode, self.steps, self.step, self.mc_draws = mode, steps, step, mc_draws
        self.step_size = (30.0 if legacy else 0.05) if step_size is None else step_size
        self.t_first, self.t_last = timesteps_between(prior.noise_scheduler.timesteps, t_min, t_max)
        self.deterministic, self.conditional, self.guidance = deterministic, conditional, guidance
        self.random = self.random or not deterministic
        self.released, self._read = legacy, {}
        self.legacy = LegacyDescent(prior, blank_embedding, legacy_batch) if legacy else None
        if legacy:
            self.group, self.artefact = math.lcm(self.group, legacy_batch), "clipure-legacy"

    blank: Tensor
    tokens: Tensor
    _read: dict[bool, TextPrefix]

    def purify_latent(self, z: Tensor) -> Tensor:
        """Latents [B, D] of the same lengths, moved on the sphere; in legacy mode unit latents."""
        if self.legacy is not None:
            return self.legacy.purify(z, steps=self.steps, step_size=self.step_size, detached=self.released)
        length = z.norm(dim=1, keepdim=True).clamp_min(1e-12)
        move = self._descend if self.step == "project" else self._turn
        u = z / length
        with unrolling(z) as exact:
            for i in range(self.steps):
                u = move(u, z, i, exact)
        return length * u

    def differentiable(self) -> ImageEncoder:
        """Itself; in legacy mode the same loop with its gradient uncut."""
        return variant(self, released=False) if self.released else self

    def cheaper(self) -> ImageEncoder | None:
        """A fifth of the steps, each as much longer."""
        steps = max(1, self.steps // 5)
        longer = self.step_size * self.steps / steps
        return variant(self, steps=steps, step_size=longer) if steps < self.steps else None

    def iterates(self) -> list[ImageEncoder]:
        """The defence after a third and two thirds of its steps: all of them, unrolled, are too many."""
        stops = {self.steps * third // 3 for third in (1, 2)}
        return [variant(self, steps=steps) for steps in sorted(stops) if 0 < steps < self.steps]

    def prompt(self, *, null: bool = False) -> TextPrefix:
        """What the prior has read before the latent: the class-free prompt, or nothing; read once for ever."""
        null = null or not self.conditional
        if null not in self._read:
            with torch.no_grad():
                said = (None, None) if null else (self.blank[None], self.tokens)
                self._read[null] = self.prior.text_prefix(*said)
        return self._read[null]

    def error(self, u: Tensor, key: Tensor, step: int) -> Tensor:
        """[B] mean denoising error of unit latents u [B, D] over a step's draws; the noise is ``key``'s [B, ...]."""
        x0 = self.prior.scale * u
        looks = self._looks(u, key, step)
        return torch.stack([(estimate - x0).square().mean(dim=-1) for estimate in looks]).mean(dim=0)

    def _descend(self, u: Tensor, key: Tensor, step: int, exact: bool) -> Tensor:
        with torch.enable_grad():
            leaf = u if exact else u.detach().requires_grad_()
            (grad,) = torch.autograd.grad(self.error(leaf, key, step).sum(), leaf, create_graph=exact)
            downhill = -grad / grad.norm(dim=1, keepdim=True).clamp_min(1e-12)
            moved = F.normalize(leaf + self.step_size * downhill, dim=1)
        return moved if exact else moved.detach()

    def _turn(self, u: Tensor, key: Tensor, step: int, exact: bool) -> Tensor:
        target = F.normalize(torch.stack(self._looks(u, key, step)).mean(dim=0), dim=1)
        theta = angle_to(u, target)
        return F.normalize(rotate(u, target, theta, (theta - self.step_size).clamp_min(0.0)), dim=1)

    def _looks(self, u: Tensor, key: Tensor, step: int) -> list[Tensor]:
        """The prior's estimates [B, D] of ``scale`` u from noisy looks at it."""
        looks = []
        for draw in range(self.mc_draws):
            t, eps = self._noise(key, f"clipure_diff/{step}/{draw}")
            x_t = self.prior.noise_scheduler.add_noise(self.prior.scale * u, t, eps)
            estimate = self.prior.denoise(x_t, t, None, prefix=self.prompt())
            if self.guidance != 1:
                null = self.prior.denoise(x_t, t, None, prefix=self.prompt(null=True))
                estimate = null + (estimate - null) * self.guidance
            looks.append(estimate)
        return looks

    def _noise(self, key: Tensor, stream: str) -> tuple[Tensor, Tensor]:
        if self.deterministic:
            same = torch.zeros(len(key), dtype=torch.int64, device=key.device)
            with noise.samples(same):
                return self._draw(key, stream)
        return self._draw(key, stream)

    def _draw(self, key: Tensor, stream: str) -> tuple[Tensor, Tensor]:
        t = noise.integers(key, stream + "/t", self.t_first, self.t_last)
        return t, noise.normal(key, stream + "/eps")

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self._read = {}  # moved or cast: what was read is elsewhere, or of another precision
        return super()._apply(fn, recurse)


def _check(said: dict[str, Any]) -> None:
    prior, encoder = said["prior"], said["encoder"]
    if prior.embedding_dim != encoder.embedding_dim:
        raise ValueError(
            f"the prior is for embeddings of {prior.embedding_dim} numbers, the encoder gives "
            f"{encoder.embedding_dim}; train a prior on this encoder"
        )
    if said["steps"] < 0 or (said["step_size"] or 0) < 0 or said["mc_draws"] < 1 or said["legacy_batch"] < 1:
        raise ValueError(
            f"CLIPure-Diff takes steps >= 0, step_size >= 0, mc_draws >= 1 and legacy_batch >= 1, not "
            f"{said['steps']}, {said['step_size']}, {said['mc_draws']}, {said['legacy_batch']}"
        )
    if not prior.net.textless and (said["guidance"] != 1 or not said["conditional"]):
        raise ValueError("this prior never learnt to do without a text; say conditional=true and guidance=1")
    usual = {"step": "project", "t_min": 0.9, "t_max": 1.0, "mc_draws": 1, "deterministic": False}
    usual |= {"conditional": True, "guidance": 1.0}
    unusual = [name for name, value in usual.items() if said[name] != value]
    if said["legacy"] and unusual:
        raise ValueError(f"CLIPure-Diff has no {unusual[0]} in legacy mode; the released code fixes it")
