"""TTC, test-time counterattack (CVPR 2025): push a suspicious image away from its own embedding."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from modules import noise
from modules.choices import check_choice
from modules.defenses.base import Defense
from modules.defenses.gates import Direction, GateCalibration, area_under_roc, best_cut
from modules.defenses.smooth import opened, signs, unrolling, variant
from modules.encoders.base import ImageEncoder
from modules.perturb.ascent import Iterate, ascend
from modules.perturb.losses import squared_l2
from modules.perturb.threat import Threat, per_image
from modules.units import Pixels


class TTC(Defense):
    """Counterattacks images whose embedding drifts suspiciously little under noise.

    Against the released code: only gated images pay for the steps, and the threshold's side can be calibrated, since
    on some encoders attacked images drift more than clean ones.  Rejected images keep the probe's noise, as released.

    Args:
        encoder: the encoder to defend.
        eps: radius of the counterattack, linf, in [0, 1] pixels.
        step_size: of the counterattack, in [0, 1] pixels.
        steps: N; with none, this is random noise.
        tau: drifts on one side of it are counterattacked.
        direction: ``below`` counterattacks small drifts (the paper), ``above`` large ones.
        beta: weight of later iterates: exp(beta k), normalised.
        calibrate: set ``tau`` and ``direction`` on a tuning split before the evaluation.
    """

    random = True
    gate_reads = "embedding drift under noise"

    def __init__(
        self,
        encoder: ImageEncoder,
        /,
        *,
        eps: Pixels = 4 / 255,
        step_size: Pixels = 1 / 255,
        steps: int = 2,
        tau: float = 0.2,
        direction: Direction = "below",
        beta: float = 2.0,
        calibrate: bool = False,
    ) -> None:
        check_choice("direction", direction, Direction)
        super().__init__(encoder)
        if steps < 0 or step_size <= 0:
            raise ValueError(f"TTC takes steps >= 0 of size > 0, not steps={steps}, step_size={step_size}")
        self.threat = Threat("linf", eps)
        self.step_size, self.steps, self.beta = step_size, steps, beta
        self.tau, self.direction, self.calibrate = tau, direction, calibrate
        self.soft = False

    def weights(self, like: Tensor) -> Tensor:
        """[N + 1] weights of the iterates, softmax of beta k."""
        return torch.softmax(self.beta * torch.arange(self.steps + 1, dtype=like.dtype), 0).to(like)

    def probe(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The clean embedding [B, D], the noisy image [B, 3, H, W], and the drift tau [B] between them."""
        z0 = self.encoder.encode_image(x)
        if self.threat.eps == 0:
            return z0, x, torch.zeros(len(x), device=x.device, dtype=x.dtype)
        noisy = (x + self.threat.sample(x, "ttc")).clamp(0.0, 1.0)
        drift = (self.encoder.encode_image(noisy) - z0).norm(dim=1) / z0.norm(dim=1)
        return z0, noisy, drift

    def gated(self, drift: Tensor) -> Tensor:
        """[B] bool: counterattack this image; a drift equal to tau is not."""
        return drift < self.tau if self.direction == "below" else drift > self.tau

    def gate_score(self, x: Tensor) -> Tensor:
        """[B] the drift."""
        return self.probe(x)[2]

    def gate(self, x: Tensor) -> Tensor:
        """[B] how far the drift lies on the counterattacked side of tau, in units of tau."""
        return self._opening(self.gate_score(x))

    def _opening(self, drift: Tensor) -> Tensor:
        side = 1 if self.direction == "above" else -1
        return side * (drift - self.tau) / max(abs(self.tau), 1e-6)

    def purify_pixels(self, x: Tensor) -> Tensor:
        """x [B, 3, H, W] plus the weighted counterattack where the gate opens, plus the probe's noise elsewhere.

        Differentiated through every step and the gate, both by their straight-through slopes.
        """
        with unrolling(x) as exact, torch.set_grad_enabled(exact):
            z0, noisy, drift = self.probe(x)
            if exact or self.soft:
                weight = per_image(opened(self._opening(drift), soft=self.soft), x)
                return (noisy + weight * (self._counterattack(x, noisy, z0, exact=exact) - noisy)).clamp(0.0, 1.0)
            moved, index = noisy.clone(), self.gated(drift).nonzero().squeeze(1)
            if self.steps and len(index):
                with noise.subset(index):
                    moved[index] = self._counterattack(x[index], noisy[index], z0[index])
            return moved

    def _counterattack(self, x: Tensor, noisy: Tensor, z0: Tensor, *, exact: bool = False) -> Tensor:
        """The weighted mean [B, 3, H, W] of the counterattack's points."""
        path = self._path(x, noisy, z0, exact=exact)
        weighted = [w * (point.x - x) for w, point in zip(self.weights(x), path, strict=True)]
        return (x + torch.stack(weighted).sum(dim=0)).clamp(0.0, 1.0)  # of rounding

    def _path(self, x: Tensor, noisy: Tensor, z0: Tensor, *, exact: bool) -> Iterator[Iterate]:
        return ascend(
            lambda v: squared_l2(self.encoder.encode_image(v), z0),
            x,
            self.threat,
            steps=self.steps,
            step_size=self.step_size,
            start=noisy - x,
            direction=partial(signs, soft=self.soft),
            differentiable=exact,
        )

    def smoothed(self) -> ImageEncoder | None:
        """A smooth sign and a smooth gate."""
        return variant(self, soft=True)

    def cheaper(self) -> ImageEncoder | None:
        """One step as long as all together."""
        return variant(self, steps=1, step_size=self.steps * self.step_size) if self.steps > 1 else None

    def iterates(self) -> list[ImageEncoder]:
        """The defence after fewer steps."""
        return [variant(self, steps=steps) for steps in range(1, self.steps)]

    def calibrate_gate(self, clean: Tensor, attacked: Tensor) -> GateCalibration:
        """Set tau and its side where they tell attacked from clean images best (balanced accuracy).

        Args:
            clean: [N] drifts of a tuning split.
            attacked: [N] drifts of the same images, attacked through the bare encoder.
        """
        calm, moved = clean.double(), attacked.double()
        auc = area_under_roc(calm, moved)  # of "attacked drifts more"
        self.direction = "above" if auc >= 0.5 else "below"
        self.tau = best_cut(calm, moved, self.direction)
        return GateCalibration(self.tau, self.direction, max(auc, 1 - auc), calm, moved, self.gate_reads)
