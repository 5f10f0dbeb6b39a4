"""CSR (ICML 2026): pull an image whose embedding its own low frequencies contradict towards them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.defenses.base import Defense
from modules.defenses.low_pass import low_pass, scaled_to
from modules.defenses.smooth import opened, signs, unrolling, variant
from modules.encoders.base import ImageEncoder
from modules.perturb.ascent import ascend
from modules.perturb.threat import Threat, per_image
from modules.units import Pixels


class CSR(Defense):
    """Where cos(f(x), f(LPF x)) is small, ascends cos to the filtered embedding minus cos to the image's own.

    Ours, where the source is silent: the ascent starts at the image, the start counts as a step among which the best
    is kept, and only gated images pay for the steps.

    Args:
        encoder: the encoder to defend.
        eps: radius of the linf ball, in [0, 1] pixels.
        step_size: in [0, 1] pixels.
        steps: sign steps.
        tau: images with a smaller cosine are corrected.
        radius: of the filter, as in ``LowPass``.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        /,
        *,
        eps: Pixels = 4 / 255,
        step_size: Pixels = 2 / 255,
        steps: int = 3,
        tau: float = 0.85,
        radius: float = 40.0,
    ) -> None:
        super().__init__(encoder)
        if steps < 0 or step_size <= 0 or tau <= 0 or radius <= 0:
            raise ValueError(
                "CSR takes steps >= 0, step_size > 0, tau > 0 and radius > 0, "
                f"not {steps}, {step_size}, {tau}, {radius}"
            )
        self.threat = Threat("linf", eps)
        self.step_size, self.steps, self.tau = step_size, steps, tau
        self.radius = scaled_to(encoder.image_size, radius)
        self.soft = False

    def gate(self, x: Tensor) -> Tensor:
        """[B] how far the cosine between image and filtered image lies below tau, in units of tau."""
        return self._opening(*self._anchors(x))

    def _anchors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        filtered = low_pass(x, self.radius).clamp(0.0, 1.0)
        return self.encoder.encode_image(x), self.encoder.encode_image(filtered)

    def _opening(self, own: Tensor, low: Tensor) -> Tensor:
        return (self.tau - F.cosine_similarity(own, low, dim=1)) / self.tau

    def purify_pixels(self, x: Tensor) -> Tensor:
        """x [B, 3, H, W], corrected where the gate opens; differentiated through every step and the gate."""
        with unrolling(x) as exact:
            if exact:
                own, low = self._anchors(x)
                weight = opened(self._opening(own, low), soft=self.soft)
                return _towards(x, self._corrected(x, own, low, exact=True), weight)
            return self._corrected_where_open(x)

    @torch.no_grad()
    def _corrected_where_open(self, x: Tensor) -> Tensor:
        own, low = self._anchors(x)
        opening = self._opening(own, low)
        if self.soft:
            return _towards(x, self._corrected(x, own, low), opened(opening, soft=True))
        moved, index = x.clone(), (opening > 0).nonzero().squeeze(1)
        if self.steps and len(index):
            with noise.subset(index):
                moved[index] = self._corrected(x[index], own[index], low[index])
        return moved

    def _corrected(self, x: Tensor, own: Tensor, low: Tensor, *, exact: bool = False) -> Tensor:
        """The best point [B, 3, H, W] on the way; ``own`` and ``low`` [B, D] are its anchors."""

        def towards_low(v: Tensor) -> Tensor:
            z = self.encoder.encode_image(v)
            return F.cosine_similarity(z, low, dim=1) - F.cosine_similarity(z, own, dim=1)

        path = list(
            ascend(
                towards_low,
                x,
                self.threat,
                steps=self.steps,
                step_size=self.step_size,
                start=torch.zeros_like(x),  # a point of its own: the gradient must not run into the anchors
                direction=lambda grad: signs(grad, soft=self.soft),
                differentiable=exact,
            )
        )
        with torch.no_grad():
            values = [towards_low(p.x) if p.value is None else p.value.detach() for p in path]
            best = torch.stack(values).argmax(dim=0)
        return torch.stack([p.x for p in path])[best, torch.arange(len(x), device=x.device)]

    def smoothed(self) -> ImageEncoder | None:
        """A smooth sign and a smooth gate; the best step is still picked."""
        return variant(self, soft=True)

    def cheaper(self) -> ImageEncoder | None:
        """One step as long as all together."""
        return variant(self, steps=1, step_size=self.steps * self.step_size) if self.steps > 1 else None

    def iterates(self) -> list[ImageEncoder]:
        """The defence after fewer steps."""
        return [variant(self, steps=steps) for steps in range(1, self.steps)]


def _towards(x: Tensor, goal: Tensor, weight: Tensor) -> Tensor:
    """Images [B, 3, H, W] on the way from x to ``goal``, as far as weight [B] says."""
    return (x + per_image(weight, x) * (goal - x)).clamp(0.0, 1.0)  # of rounding
