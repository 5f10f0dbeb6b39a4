"""Detection without a prior: a latent far from the blank template is flagged."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from modules.choices import check_choice
from modules.defenses.clipure_cos import CLIPureCos
from modules.defenses.latent_gate import Act, LatentGate
from modules.encoders.base import ImageEncoder


class CosineGate(LatentGate):
    """Opens where the latent's cosine with the blank template is below a threshold.

    That cosine is the likelihood that CLIPure-Cos (arXiv:2502.18176) climbs; it needs no prior.

    Args:
        encoder: the encoder to defend.
        blank_embedding: [D] embedding of the blank templates.
        act: ``flag`` leaves latents alone, ``purify`` hands flagged ones to CLIPure-Cos.
        fpr: share of clean images that may be flagged; calibrated on a tuning split.
        threshold: on the cosine, instead of a calibrated one.
        steps: of CLIPure-Cos.
        step_size: of CLIPure-Cos.
    """

    gate_reads = "cosine with the blank template"
    blank: Tensor

    def __init__(
        self,
        encoder: ImageEncoder,
        blank_embedding: Tensor,
        /,
        *,
        act: Act = "flag",
        fpr: float = 0.05,
        threshold: float | None = None,
        steps: int = 10,
        step_size: float = 0.05,
    ) -> None:
        check_choice("act", act, Act)
        purifier = CLIPureCos(encoder, blank_embedding, steps=steps, step_size=step_size)
        super().__init__(encoder, purifier if act == "purify" else None, threshold=threshold, fpr=fpr)
        self.register_buffer("blank", F.normalize(blank_embedding.detach(), dim=-1), persistent=False)

    def likelihood(self, z: Tensor) -> Tensor:
        """[B] cosines of latents z [B, D]."""
        return F.normalize(z, dim=1) @ self.blank
