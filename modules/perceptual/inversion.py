"""Looking into an encoder: the image whose embedding points where one wants it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from modules import noise
from modules.attacks.apgd import APGD
from modules.encoders.base import ImageEncoder, frozen
from modules.perceptual.metric import unit
from modules.perturb.threat import Threat

Start = Literal["grey", "noise"]


@dataclass
class Inversion:
    """Images found for targets.

    Attributes:
        x: [B, 3, H, W] in [0, 1].
        cosine: [B] of their embeddings to the targets.
        distance: [B] Euclidean, from the start.
        snapshots: (evaluations of the encoder, images [B, 3, H, W]) on the way, the start first.
    """

    x: Tensor
    cosine: Tensor
    distance: Tensor
    snapshots: list[tuple[int, Tensor]] = field(default_factory=list)


class _Toward:
    """[B] cosine to the targets, less the total variation; keeps a picture of the best points now and then."""

    def __init__(self, encoder: ImageEncoder, targets: Tensor, variation: float, pictures: Sequence[int]) -> None:
        self.encoder, self.targets, self.variation = encoder, unit(targets), variation
        self.pictures = set(pictures)
        self.asked = 0
        self.best: Tensor | None = None
        self.value = torch.full((len(targets),), -torch.inf, device=targets.device)
        self.snapshots: list[tuple[int, Tensor]] = []

    def __call__(self, x: Tensor) -> Tensor:
        value = (unit(self.encoder(x)) * self.targets).sum(dim=-1)
        if self.variation:
            value = value - self.variation * total_variation(x)
        self._keep(x.detach(), value.detach())
        return value

    def _keep(self, x: Tensor, value: Tensor) -> None:
        better = value > self.value
        self.value = torch.where(better, value, self.value)
        self.best = x if self.best is None else torch.where(better[:, None, None, None], x, self.best)
        self.asked += 1
        if self.asked in self.pictures:
            self.snapshots.append((self.asked, self.best.cpu()))


def total_variation(x: Tensor) -> Tensor:
    """[B] sum of absolute differences of neighbouring pixels of x [B, C, H, W]."""
    across, down = (x[..., 1:] - x[..., :-1]).abs(), (x[..., 1:, :] - x[..., :-1, :]).abs()
    return across.flatten(1).sum(dim=1) + down.flatten(1).sum(dim=1)


def invert(
    encoder: ImageEncoder,
    targets: Tensor,
    /,
    *,
    radius: float | None = 10.0,
    steps: int = 500,
    start: Start = "grey",
    variation: float = 0.0,
    snapshots: int = 0,
    seed: int = 0,
) -> Inversion:
    """Images whose embeddings point towards the targets.

    max over x of cos(f(x), target) with ||x - x0||_2 <= radius and x in the box, by Auto-PGD from x0.  Nothing is known
    of the settings behind published pictures; these are ours.  Targets with the same place in the batch start from the
    same image, whatever the encoder: pictures of two encoders can be compared.

    Args:
        encoder: of images; its mode and gradient flags are as before afterwards.
        targets: [B, D] embeddings of images (feature inversion) or texts (text inversion).
        radius: of the ball around the start, in [0, 1] pixels; None leaves the whole box.
        steps: gradient steps.
        start: ``grey`` 0.5, or seeded uniform ``noise``.
        variation: weight of the total variation, which is taken off the cosine.
        snapshots: how many pictures to keep on the way.
        seed: of every random number.

    Raises:
        ValueError: the targets do not fit the encoder, or a setting cannot be.
    """
    if targets.dim() != 2 or targets.shape[1] != encoder.embedding_dim:
        raise ValueError(
            f"targets are {list(targets.shape)}; this encoder's embeddings are [B, {encoder.embedding_dim}]"
        )
    if snapshots < 0 or variation < 0:
        raise ValueError(f"snapshots={snapshots} and variation={variation} cannot be negative")
    shape = (len(targets), 3, encoder.image_size, encoder.image_size)
    grey = torch.full(shape, 0.5, device=targets.device)
    eps = float(grey[0].numel()) ** 0.5 if radius is None else radius  # no point of the box is farther from another
    with noise.samples(torch.arange(len(targets), device=targets.device), seed=seed), frozen(encoder):
        x0 = grey if start == "grey" else noise.uniform(grey, "inversion/start")
        toward = _Toward(encoder, targets, variation, _when(snapshots, steps + 1))
        x = APGD(Threat("l2", eps), steps=steps, random_start=False).perturb(toward, x0, "inversion")
        with torch.no_grad():
            cosine = (unit(encoder(x)) * unit(targets)).sum(dim=-1)
    pictures = [(0, x0.cpu()), *toward.snapshots] if snapshots else []
    return Inversion(x, cosine, (x - x0).flatten(1).norm(dim=1), pictures)


def _when(count: int, total: int) -> list[int]:
    """``count`` of the numbers 1..total, closer together at the start, the last among them."""
    return sorted({max(1, round(total ** ((i + 1) / count))) for i in range(count)})
