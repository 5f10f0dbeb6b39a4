"""MAC (CVPR 2026): counterattack the image and an augmented copy, as hard as the copy's drift suggests."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from modules import noise
from modules.defenses.base import Defense
from modules.defenses.low_pass import blurred
from modules.defenses.smooth import signs, unrolling, variant
from modules.encoders.base import ImageEncoder
from modules.perturb.ascent import ascend
from modules.perturb.losses import squared_l2
from modules.perturb.threat import Threat, per_image
from modules.units import Pixels

ROTATION, SHIFT, SCALE = math.radians(5.0), 0.04, 0.08  # largest rotation, shift and zoom of the augmented copy
JITTER, BLUR, GRAIN = 0.1, 0.5, 0.02  # ours: brightness and contrast, pixels, standard deviation in [0, 1] pixels


def affine_grid(x: Tensor, stream: str) -> Tensor:
    """Sampling positions [B, H, W, 2] of a small random rotation, shift and zoom of each image of x [B, 3, H, W]."""
    draw = 2 * noise.uniform(x, stream, (4,)) - 1
    angle, zoom = ROTATION * draw[:, 0], 1 + SCALE * draw[:, 1]
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    across, down = 2 * SHIFT * draw[:, 2], 2 * SHIFT * draw[:, 3]  # positions run from -1 to 1
    rows = [torch.stack([cos, -sin, across], dim=1), torch.stack([sin, cos, down], dim=1)]
    return F.affine_grid(torch.stack(rows, dim=1), list(x.shape), align_corners=False)


def augmented(x: Tensor, stream: str = "mac") -> Tensor:
    """x [B, 3, H, W] turned, shifted, zoomed, jittered, blurred and with noise, each image by its own draw."""
    moved = F.grid_sample(x, affine_grid(x, stream + "/affine"), padding_mode="border", align_corners=False)
    draw = 1 + JITTER * (2 * noise.uniform(x, stream + "/jitter", (2,)) - 1)
    mean = moved.mean(dim=(1, 2, 3), keepdim=True)
    jittered = per_image(draw[:, 0], x) * (mean + per_image(draw[:, 1], x) * (moved - mean))
    grain = GRAIN * noise.normal(x, stream + "/grain")
    return (blurred(jittered, BLUR) + grain).clamp(0.0, 1.0)


class MAC(Defense):
    """Averages two counterattacked looks: the image and one augmented copy of it.

    Each look is pushed away from its own embedding as in TTC, and the push is scaled by sigmoid((drift - tau) / T),
    where the drift is the relative distance of the copy's embedding from the image's.  Here a large drift reads as
    attacked.  Normalised embeddings are averaged instead of logits, which gives the same class.

    The release was only known from a description.  Ours: the strengths of jitter, blur and noise, edge pixels
    repeated beyond the border, uniform starts, and the same scale for both looks.

    Args:
        encoder: the encoder to defend.
        eps: radius of the counterattacks, linf, in [0, 1] pixels.
        steps: N, each of size eps / 4.
        tau: the drift at which counterattacks have half their strength.
        temperature: T.
    """

    random = True

    def __init__(
        self,
        encoder: ImageEncoder,
        /,
        *,
        eps: Pixels = 8 / 255,
        steps: int = 4,
        tau: float = 0.7,
        temperature: float = 0.01,
    ) -> None:
        super().__init__(encoder)
        if steps < 0 or tau <= 0 or temperature <= 0:
            raise ValueError(f"MAC takes steps >= 0, tau > 0 and temperature > 0, not {steps}, {tau}, {temperature}")
        self.threat = Threat("linf", eps)
        self.step_size, self.steps = eps / 4, steps
        self.tau, self.temperature = tau, temperature
        self.soft = False

    def gate(self, x: Tensor) -> Tensor:
        """[B] how far the copy's drift lies above tau, in units of tau."""
        return (self._drift(*(self.encoder.encode_image(look) for look in (x, augmented(x)))) - self.tau) / self.tau

    def _drift(self, z: Tensor, z_copy: Tensor) -> Tensor:
        return (z_copy - z).norm(dim=1) / z.norm(dim=1)

    def looks(self, x: Tensor) -> list[Tensor]:
        """The counterattacked image and copy, each [B, 3, H, W]; differentiated through every step."""
        with unrolling(x) as exact, torch.set_grad_enabled(exact):
            views = [x, augmented(x)]
            anchors = [self.encoder.encode_image(view) for view in views]
            scale = per_image(torch.sigmoid((self._drift(*anchors) - self.tau) / self.temperature), x)
            pushed = [
                self._pushed(view, z, f"mac/{i}", exact) for i, (view, z) in enumerate(zip(views, anchors, strict=True))
            ]
            return [(view + scale * (far - view)).clamp(0.0, 1.0) for view, far in zip(views, pushed, strict=True)]

    def _pushed(self, x: Tensor, z0: Tensor, stream: str, exact: bool) -> Tensor:
        *_, last = ascend(
            lambda v: squared_l2(self.encoder.encode_image(v), z0),
            x,
            self.threat,
            steps=self.steps,
            step_size=self.step_size,
            start=self.threat.sample(x, stream),
            direction=lambda grad: signs(grad, soft=self.soft),
            differentiable=exact,
        )
        return last.x

    def purify_pixels(self, x: Tensor) -> Tensor:
        """The counterattacked image [B, 3, H, W], without its copy."""
        return self.looks(x)[0]

    def encode_image(self, x: Tensor) -> Tensor:
        """Mean normalised embedding [B, D] of both looks."""
        units = [F.normalize(self.encoder.encode_image(look), dim=1) for look in self.looks(x)]
        return self.purify_latent(torch.stack(units).mean(dim=0))

    def smoothed(self) -> ImageEncoder | None:
        """A smooth sign, and a gate ten times as soft."""
        return variant(self, soft=True, temperature=10 * self.temperature)

    def cheaper(self) -> ImageEncoder | None:
        """One step as long as all together."""
        return variant(self, steps=1, step_size=self.steps * self.step_size) if self.steps > 1 else None

    def iterates(self) -> list[ImageEncoder]:
        """The defence after fewer steps."""
        return [variant(self, steps=steps) for steps in range(1, self.steps)]
