"""Detection by the diffusion prior: a latent that it finds unlikely is flagged."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.choices import check_choice
from modules.defenses.clipure_diff import CLIPureDiff
from modules.defenses.latent_gate import Act, LatentGate
from modules.encoders.base import ImageEncoder
from modules.prior.diffusion import DiffusionPrior
from modules.prior.likelihood import timesteps_between


class LikelihoodGate(LatentGate):
    """Opens where the prior's log-likelihood of the latent, under a class-free prompt, is below a threshold.

    CLIPure-Diff (arXiv:2502.18176) climbs this likelihood on every image; here it is read first.  The looks' noise is
    the same for every image, so that two images differ by nothing else and the gate hides nothing from an attacker.
    What tells attacked latents apart lies at small timesteps; the latest ones, from which the released CLIPure-Diff
    draws, hardly depend on the latent at all.

    Args:
        encoder: the encoder to defend.
        prior: trained on this encoder's embeddings; frozen from here on.
        blank_embedding: [D] text embedding of the class-free prompt.
        blank_tokens: [1, L, D_text] its token states.
        act: ``flag`` leaves latents alone, ``purify`` hands flagged ones to CLIPure-Diff.
        fpr: share of clean images that may be flagged; calibrated on a tuning split.
        threshold: on the log-likelihood, instead of a calibrated one.
        draws: noisy looks behind a likelihood.
        t_min: first timestep, as a fraction of the schedule.
        t_max: end of the timesteps.
        steps: of CLIPure-Diff.
        step_size: of CLIPure-Diff.
    """

    gate_reads = "log-likelihood under the prior"

    def __init__(
        self,
        encoder: ImageEncoder,
        prior: DiffusionPrior,
        blank_embedding: Tensor,
        blank_tokens: Tensor,
        /,
        *,
        act: Act = "flag",
        fpr: float = 0.05,
        threshold: float | None = None,
        draws: int = 4,
        t_min: float = 0.0,
        t_max: float = 0.3,
        steps: int = 10,
        step_size: float = 0.05,
    ) -> None:
        check_choice("act", act, Act)
        if draws < 1:
            raise ValueError(f"draws is {draws}; a likelihood takes at least one noisy look")
        timesteps_between(prior.noise_scheduler.timesteps, t_min, t_max)  # refuses an empty range
        diffusion = CLIPureDiff(encoder, prior, blank_embedding, blank_tokens, steps=steps, step_size=step_size)
        super().__init__(encoder, diffusion if act == "purify" else None, threshold=threshold, fpr=fpr)
        self.diffusion = diffusion  # whose prior and prompt are read, whatever is done with a flagged latent
        self.draws, self.t_min, self.t_max = draws, t_min, t_max

    def likelihood(self, z: Tensor) -> Tensor:
        """[B] log-likelihoods of latents z [B, D]: minus the mean denoising error."""
        looks = {"draws": self.draws, "t_min": self.t_min, "t_max": self.t_max}
        with noise.samples(torch.zeros(len(z), dtype=torch.int64, device=z.device)):
            return self.diffusion.prior.log_likelihood(F.normalize(z, dim=1), prefix=self.diffusion.prompt(), **looks)
