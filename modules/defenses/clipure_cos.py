"""CLIPure-Cos (arXiv:2502.18176): move the latent towards a blank template's embedding."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.choices import check_choice
from modules.defenses.base import Defense
from modules.encoders.base import ImageEncoder

Mode = Literal["honest", "legacy"]


def angle_to(u: Tensor, t: Tensor) -> Tensor:
    """[B] angles in radians between unit vectors u [B, D] and t, [D] or [B, D]; exact near 0 and pi."""
    along = u @ t if t.dim() == 1 else (u * t).sum(dim=1)
    across = (u - along[:, None] * t).norm(dim=1)
    return torch.atan2(across, along)


def rotate(u: Tensor, t: Tensor, theta: Tensor, psi: Tensor) -> Tensor:
    """Unit vectors [B, D] in span{u, t}, t [D] or [B, D], whose signed angle to t is psi, not theta ([B], radians).

    alpha u + beta t with alpha = sin(psi) / sin(theta), beta = sin(theta - psi) / sin(theta); u where it lies on t.
    """
    sine = theta.sin()
    defined = sine.abs() > 1e-9
    safe = torch.where(defined, sine, torch.ones_like(sine))
    alpha = torch.where(defined, psi.sin() / safe, torch.ones_like(sine))
    beta = torch.where(defined, (theta - psi).sin() / safe, torch.zeros_like(sine))
    return alpha[:, None] * u + beta[:, None] * t


def angle_after(theta: Tensor, *, steps: int, step_size: float, group: int = 1) -> Tensor:
    """[B] signed angles after ascending the cosine: each step turns by atan(s |sin| / N), past zero and back.

    N is the length of the gradients of ``group`` neighbours together: with one, the turn is atan(s), a constant.
    """
    for _ in range(steps):
        sine = theta.sin().abs()
        length = torch.cat([part.norm().expand(len(part)) for part in sine.split(group)])
        turn = torch.atan(step_size * sine / length.clamp_min(1e-12))
        theta = torch.where(theta >= 0, theta - turn, theta + turn)
    return theta


class CLIPureCos(Defense):
    """Rotates each latent towards the blank template's embedding, in closed form.

    Against the released code (``mode: legacy``): it normalises the gradient over the whole batch, steps so far
    (s = 30) that an even number of steps leads back to the start, and hands out a gradient that ten constant
    denominators have destroyed.  ``honest`` works per sample, cannot overshoot, and is differentiated exactly.

    Args:
        encoder: the encoder to defend.
        blank_embedding: [D] embedding of the blank templates.
        mode: ``honest``, or ``legacy`` for the released behaviour, labelled as an artefact.
        steps: n.
        step_size: s; 0.05 in honest mode and 30 in legacy mode, where none is said.
        rotation_deg: total rotation in degrees instead of steps and step size (honest mode).
        clip_overshoot: stop at the template instead of turning past it (honest mode).
        legacy_batch: neighbours that share one gradient norm in legacy mode: the released evaluation batch.
    """

    blank: Tensor

    def __init__(
        self,
        encoder: ImageEncoder,
        blank_embedding: Tensor,
        /,
        *,
        mode: Mode = "honest",
        steps: int = 10,
        step_size: float | None = None,
        rotation_deg: float | None = None,
        clip_overshoot: bool = True,
        legacy_batch: int = 2,
    ) -> None:
        check_choice("mode", mode, Mode)
        super().__init__(encoder)
        if steps < 0 or (step_size is not None and step_size < 0) or legacy_batch < 1:
            raise ValueError(
                f"CLIPure-Cos takes steps >= 0, step_size >= 0 and legacy_batch >= 1, "
                f"not {steps}, {step_size}, {legacy_batch}"
            )
        if mode == "legacy" and rotation_deg is not None:
            raise ValueError("CLIPure-Cos has no rotation_deg in legacy mode; say steps and step_size")
        self.register_buffer("blank", F.normalize(blank_embedding.detach(), dim=-1), persistent=False)
        self.mode, self.steps, self.clip_overshoot = mode, steps, clip_overshoot
        self.step_size = (30.0 if mode == "legacy" else 0.05) if step_size is None else step_size
        self.rotation_deg = rotation_deg
        self.normed_together = legacy_batch if mode == "legacy" else 1
        if mode == "legacy":
            self.group, self.artefact = math.lcm(self.group, legacy_batch), "clipure-legacy"

    def purify_latent(self, z: Tensor) -> Tensor:
        """Latents [B, D] of the same lengths, turned; in legacy mode unit latents with the released gradient."""
        return self.released(z) if self.mode == "legacy" else self.rotated(z)

    def rotated(self, z: Tensor) -> Tensor:
        """Latents [B, D] turned in closed form; the gradient is the exact one, in both modes."""
        length = z.norm(dim=1, keepdim=True).clamp_min(1e-12)
        u = z / length
        theta = angle_to(u, self.blank)
        if self.rotation_deg is not None or (self.mode == "honest" and self.clip_overshoot):
            turn = self.steps * math.atan(self.step_size)
            turn = turn if self.rotation_deg is None else math.radians(self.rotation_deg)
            psi = (theta - turn).clamp_min(0.0) if self.clip_overshoot else theta - turn
        else:
            psi = angle_after(theta, steps=self.steps, step_size=self.step_size, group=self.normed_together)
        return length * rotate(u, self.blank, theta, psi)

    def released(self, z: Tensor) -> Tensor:
        """Unit latents [B, D] after the released loop, whose gradient treats every ascent direction as a constant.

        The latent crosses half precision as the released tower's output does: backwards, what the loop has left of
        the gradient underflows there.
        """
        u = F.normalize(z.half().to(z.dtype), dim=1)
        return torch.cat([self._released_loop(part) for part in u.split(self.normed_together)])

    def _released_loop(self, e: Tensor) -> Tensor:
        for _ in range(self.steps):
            length = e.norm(dim=1, keepdim=True)
            with torch.enable_grad():
                leaf = e.detach().requires_grad_()
                cosine = F.cosine_similarity(leaf, self.blank.expand_as(leaf), dim=1)
                (grad,) = torch.autograd.grad(-cosine.sum(), leaf)
            ascent = -(length.detach() * grad)
            moved = e / length + self.step_size * ascent / ascent.norm()
            e = length * F.normalize(moved, dim=1)
        return e

    def differentiable(self) -> ImageEncoder:
        """The closed form, whose gradient nothing has cut."""
        return self if self.mode == "honest" else _ExactCos(self)


class _ExactCos(ImageEncoder):
    """CLIPure-Cos with the exact gradient, also of its legacy mode."""

    def __init__(self, defense: CLIPureCos, /) -> None:
        super().__init__()
        self.defense = defense
        self.embedding_dim, self.image_size = defense.embedding_dim, defense.image_size

    def encode_image(self, x: Tensor) -> Tensor:
        return self.defense.rotated(self.defense.encoder.encode_image(x))
