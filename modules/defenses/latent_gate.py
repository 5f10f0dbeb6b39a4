"""A gate on the latent: what a likelihood finds unlikely is flagged, and left alone or purified."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from modules import noise
from modules.defenses.base import Defense
from modules.defenses.gates import GateCalibration, area_under_roc, cut_at, images_needed
from modules.defenses.smooth import opened, variant, wants_gradient
from modules.encoders.base import ImageEncoder

Act = Literal["flag", "purify"]


class LatentGate(Defense):
    """Opens where a latent's likelihood is below a threshold.

    Without a purifier it is a pure detector: latents stay as they are, and a flagged image gets no answer.  With one,
    flagged latents are purified and the others left alone.  A gate that waits for its calibration flags everything.

    Args:
        encoder: the encoder to defend.
        purifier: what flagged latents are handed to; None flags only.
        threshold: likelihoods below it are flagged; None calibrates it.
        fpr: share of fresh clean images that a calibrated gate flags, at most, on average over tuning splits.
    """

    calibrate: bool

    def __init__(
        self, encoder: ImageEncoder, purifier: Defense | None, /, *, threshold: float | None, fpr: float
    ) -> None:
        super().__init__(encoder)
        if not 0 < fpr < 1:
            raise ValueError(f"fpr is {fpr}; it is the share of clean images that may be flagged, between 0 and 1")
        self.purifier, self.threshold, self.fpr = purifier, threshold, fpr
        self.unit = max(abs(threshold or 0.0), 1e-6)
        self.calibrate, self.rejects = threshold is None, purifier is None
        self.random = self.random or (purifier is not None and purifier.random)
        self.soft = False

    def likelihood(self, z: Tensor) -> Tensor:
        """[B] how likely latents z [B, D] are, on any scale; differentiable."""
        raise NotImplementedError

    def gate_score(self, x: Tensor) -> Tensor:
        """[B] the likelihood of the latent of x [B, 3, H, W]."""
        return self.likelihood(self.encoder.encode_image(x))

    def gate(self, x: Tensor) -> Tensor:
        """[B] how far the likelihood lies below the threshold; once calibrated, in deviations of clean images."""
        return self._opening(self.gate_score(x))

    def _opening(self, likelihood: Tensor) -> Tensor:
        if self.threshold is None:
            return torch.ones_like(likelihood)
        return (self.threshold - likelihood) / self.unit

    def purify_latent(self, z: Tensor) -> Tensor:
        """Latents [B, D], purified where the gate opens; the gate is differentiated by its straight-through slope."""
        if self.purifier is None:
            return z
        if wants_gradient(z) or self.soft:
            weight = opened(self._opening(self.likelihood(z)), soft=self.soft)[:, None]
            return z + weight * (self.purifier.purify_latent(z) - z)
        moved, index = z.clone(), (self._opening(self.likelihood(z)) > 0).nonzero().squeeze(1)
        if len(index):
            with noise.subset(index):
                moved[index] = self.purifier.purify_latent(z[index])
        return moved

    def calibrate_gate(self, clean: Tensor, attacked: Tensor) -> GateCalibration:
        """Set the threshold at the false-positive rate ``fpr``.

        Args:
            clean: [N] likelihoods of a tuning split.
            attacked: [N] of the same images, attacked; for the record, the threshold does not look at them.

        Raises:
            ValueError: too few images.
        """
        calm, moved = clean.double(), attacked.double()
        threshold = cut_at(self.fpr, calm, "below")
        if threshold is None:
            raise ValueError(
                f"{len(calm)} tuning images cannot set a gate at fpr={self.fpr:g}; give at least "
                f"{images_needed(self.fpr)}, or a larger fpr"
            )
        self.threshold, self.unit = threshold, max(float(calm.std(correction=0)), 1e-6)
        self.gate_rest = max((float(calm.median()) - threshold) / self.unit, 0.0)  # an evader looks like a clean image
        auc = 1 - area_under_roc(calm, moved)
        return GateCalibration(threshold, "below", auc, calm, moved, self.gate_reads)

    def differentiable(self) -> ImageEncoder:
        """The purifier's own differentiable twin behind the gate."""
        return self._behind(lambda purifier: purifier.differentiable()) or self

    def smoothed(self) -> ImageEncoder | None:
        """A smooth gate; there is none to smooth where nothing is purified."""
        return variant(self, soft=True) if self.purifier is not None else None

    def cheaper(self) -> ImageEncoder | None:
        """The purifier with less work."""
        return self._behind(lambda purifier: purifier.cheaper())

    def iterates(self) -> list[ImageEncoder]:
        """The purifier after fewer steps."""
        stops = self.purifier.iterates() if self.purifier is not None else []
        return [twin for stop in stops if (twin := self._behind(lambda _, stop=stop: stop)) is not None]

    def _behind(self, change: Callable[[Defense], ImageEncoder | None]) -> ImageEncoder | None:
        """The same gate, weights shared, before a changed purifier; None where there is none."""
        changed = change(self.purifier) if self.purifier is not None else None
        if changed is None or changed is self.purifier:
            return None
        twin = copy.copy(self)
        twin._modules = {**self._modules, "purifier": changed}
        return twin
