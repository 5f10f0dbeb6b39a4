"""Planted defences that fool an evaluation, each in one way that somebody has published or shipped."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.answers import SCORE_DRAW
from modules import noise
from modules.defenses.base import Defense
from modules.encoders.base import ImageEncoder

Head = Callable[[Tensor], Tensor]


class DetachedPurifier(Defense):
    """Purifies the latent outside the graph, as released CLIPure did in effect."""

    def purify_latent(self, z: Tensor) -> Tensor:
        z = z.detach()
        return z + 0.1 * z.tanh()


class _Half(torch.autograd.Function):
    """Rounds values and gradients to half precision, which an operator of its own keeps out of the graph's sight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.half().float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].half().float()


class HalfPrecision(Defense):
    """Logits so small that their gradient is lost on its way back through half precision; values survive."""

    def logits(self, x: Tensor, head: Head) -> Tensor:
        return 1e-9 * head(_Half.apply(self.encode_image(x)))  # pyright: ignore[reportArgumentType]


class Saturated(Defense):
    """Logits a million times too large: no cross-entropy has a gradient any more."""

    def logits(self, x: Tensor, head: Head) -> Tensor:
        return 1e6 * head(self.encode_image(x))


class RoundedPixels(Defense):
    """Rounds pixels to 64 levels; the derivative of rounding is zero."""

    def purify_pixels(self, x: Tensor) -> Tensor:
        return (63 * x).round() / 63


class NearestLatent(Defense):
    """Replaces the latent by the nearest of stored ones [N, D]: an argmax has no derivative."""

    def __init__(self, encoder: ImageEncoder, stored: Tensor) -> None:
        super().__init__(encoder)
        self.stored = stored

    def purify_latent(self, z: Tensor) -> Tensor:
        return self.stored[torch.cdist(z, self.stored).argmin(dim=1)]


class JPEG(Defense):
    """Rounds the coefficients of a cosine transform, and claims the derivative of the identity."""

    def purify_pixels(self, x: Tensor) -> Tensor:
        n = torch.arange(x.shape[-1], dtype=x.dtype)
        basis = torch.cos(math.pi / len(n) * (n[:, None] + 0.5) * n[None]) * (2 / len(n)) ** 0.5
        basis[:, 0] /= 2**0.5
        rounded = basis @ (0.08 * ((basis.T @ x @ basis) / 0.08).round()) @ basis.T
        return x + (rounded - x).detach()


class RandomResizePad(Defense):
    """Shrinks and pads the image at random, with a generator of its own, and says nothing about it."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__(encoder)
        self.generator = torch.Generator().manual_seed(0)

    def purify_pixels(self, x: Tensor) -> Tensor:
        top, left = torch.randint(0, 2, (2,), generator=self.generator).tolist()
        small = F.interpolate(x, x.shape[-1] - 1, mode="bilinear", antialias=False)
        return F.pad(small, (left, 1 - left, top, 1 - top), value=0.5)


class BatchNormaliser(Defense):
    """Standardises latents over the batch: the other images decide too."""

    def purify_latent(self, z: Tensor) -> Tensor:
        return (z - z.mean(dim=0)) / (z.std(dim=0, correction=0) + 1e-3)


class SoftmaxHead(Defense):
    """Hands out probabilities as logits."""

    def logits(self, x: Tensor, head: Head) -> Tensor:
        return head(self.encode_image(x)).softmax(dim=1)


class NoiseOnly(Defense):
    """Looks at noise instead of the image."""

    random = True

    def purify_pixels(self, x: Tensor) -> Tensor:
        return noise.uniform(x, "noise_only")


class AlwaysRejects(Defense):
    """A gate that takes every image for an attack, and answers none of them."""

    def purify_latent(self, z: Tensor) -> Tensor:
        return torch.ones_like(z).cumsum(dim=1)


class LabelLeak(Defense):
    """Knows the images by name; answers: what to say, a latent [D], for each key."""

    def __init__(self, encoder: ImageEncoder, answers: dict[int, Tensor]) -> None:
        super().__init__(encoder)
        self.answers = answers

    def purify_latent(self, z: Tensor) -> Tensor:
        scope = noise.scope()
        keys = [] if scope is None else scope.keys.tolist()
        known = [self.answers.get(key) for key in keys]
        return torch.stack([row if said is None else 5 * said + 0.01 * row for row, said in zip(z, known, strict=True)])


class _Flip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return -grads[0]


class SignFlip(Defense):
    """Does nothing, and hands the gradient back with the other sign."""

    def purify_pixels(self, x: Tensor) -> Tensor:
        flipped = _Flip.apply(x)
        assert isinstance(flipped, Tensor)
        return flipped


class GradientWatcher(Defense):
    """Looks at another image while somebody wants a gradient."""

    def purify_pixels(self, x: Tensor) -> Tensor:
        return x.flip(-1).flip(-2) if torch.is_grad_enabled() and x.requires_grad else x


class Squash(Defense):
    """Squashes latents so hard that the tanh is exactly one, and its derivative zero."""

    def purify_latent(self, z: Tensor) -> Tensor:
        return z + torch.tanh(1e6 * z.detach()) * 0 + torch.tanh(1e6 * z) - z


class KeyedNoise(Defense):
    """Adds a little noise that differs from image to image and from draw to draw, and does not say so."""

    def purify_pixels(self, x: Tensor) -> Tensor:
        return x + 0.01 * noise.normal(x, "keyed")


class Ripples(Defense):
    """Adds ripples far finer than a pixel's step: a true gradient, of no use."""

    def purify_pixels(self, x: Tensor) -> Tensor:
        return x + 0.008 * torch.sin(1e5 * x)


class Drifts(Defense):
    """Shifts the image a little further with every question."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__(encoder)
        self.asked = 0

    def purify_pixels(self, x: Tensor) -> Tensor:
        self.asked += 1
        return x + 0.05 * math.sin(self.asked) * torch.linspace(-1, 1, x.shape[-1])


class WakesUp(Drifts):
    """Honest for the first fifty questions, then blurs what it is asked about."""

    def purify_pixels(self, x: Tensor) -> Tensor:
        self.asked += 1
        return x if self.asked <= 50 else (x + x.roll(1, -1)) / 2


class KnowsWhenScored(Defense):
    """Shows attackers a blurred image, and looks at the real one when it is scored."""

    def purify_pixels(self, x: Tensor) -> Tensor:
        scope = noise.scope()
        return x if scope is not None and scope.draw >= SCORE_DRAW else (x + x.roll(1, -1)) / 2


class Blurred(ImageEncoder):
    """An encoder behind a blur."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder, self.embedding_dim, self.image_size = encoder, encoder.embedding_dim, encoder.image_size

    def encode_image(self, x: Tensor) -> Tensor:
        return self.encoder.encode_image((x + x.roll(1, -1) + x.roll(1, -2)) / 3)


class FalseStandIn(Defense):
    """Tells adaptive attackers to differentiate another encoder, and that its values are the defence's own."""

    def differentiable(self) -> ImageEncoder:
        return Blurred(self.encoder)
