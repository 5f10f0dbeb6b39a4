"""Distances of pictures from changed copies of themselves: do they grow as the change does?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.metrics import Z95, wilson
from eval.stats import Estimate
from modules import noise
from modules.attacks.apgd import APGD
from modules.encoders.base import ImageEncoder, frozen
from modules.perceptual.inversion import moved
from modules.perceptual.metric import PerceptualMetric
from modules.perturb.losses import cosine_distance
from modules.perturb.threat import Threat

ATTACKED = "attacked"
STEPS = 20


@dataclass(frozen=True)
class Course:
    """How the distance follows a change.

    Attributes:
        change: its name.
        strengths: S of them, from weak to strong, in words.
        distances: S means over the pictures, with intervals.
        rising: share of pictures whose distance grows with every strength, with its interval.
        shown: S + 1 pictures [3, H, W]: the first one as it is, and changed.
        shown_distances: S distances of those.
    """

    change: str
    strengths: list[str]
    distances: list[Estimate]
    rising: Estimate
    shown: list[Tensor]
    shown_distances: list[float]


def _noisy(x: Tensor, size: float) -> Tensor:
    with noise.samples(torch.arange(len(x), device=x.device)):
        return (x + size * noise.normal(x, "change/noise")).clamp(0, 1)


def _blurred(x: Tensor, size: float) -> Tensor:
    reach = int(3 * size) + 1
    kernel = torch.exp(-torch.arange(-reach, reach + 1.0, device=x.device).square() / (2 * size * size))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(x, kernel, groups=3), kernel.transpose(2, 3), groups=3)


def _shifted(x: Tensor, size: float) -> Tensor:
    return moved(x, torch.full((len(x), 2), int(size), device=x.device))


def _faded(x: Tensor, size: float) -> Tensor:
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (1 - size) * (x - mean)


CHANGES: dict[str, tuple[Callable[[Tensor, float], Tensor], list[float], str]] = {
    "noise": (_noisy, [0.03, 0.06, 0.12, 0.24], "spread {:g}"),
    "blur": (_blurred, [1.0, 2.0, 3.0, 4.0], "{:g} pixels"),
    "moved": (_shifted, [1, 2, 3, 4], "{:g} pixels"),
    "faded": (_faded, [0.2, 0.4, 0.6, 0.8], "{:.0%}"),
}
"""By name: the change of pictures [B, 3, H, W], its strengths, and how one is put in words."""


def courses(encoder: ImageEncoder, x: Tensor, *, levels: tuple[int, ...] = (1, 2, 4, 8)) -> list[Course]:
    """How an encoder's distances follow every change, and an attack that makes them as large as it can.

    Args:
        encoder: that is asked; as it was afterwards.
        x: [B, 3, H, W] pictures.
        levels: radii of the attack's l_inf ball, in grey levels of 255.
    """
    metric = PerceptualMetric(encoder)
    with frozen(encoder):
        found = [
            _course(metric, name, [word.format(size) for size in sizes], x, [change(x, size) for size in sizes])
            for name, (change, sizes, word) in CHANGES.items()
        ]
        words = [f"{level}/255" for level in levels]
        return [*found, _course(metric, ATTACKED, words, x, [_attacked(encoder, x, level / 255) for level in levels])]


@torch.no_grad()
def apart(encoder: ImageEncoder, x: Tensor, y: Tensor) -> Estimate:
    """The mean distance of pictures x [B, 3, H, W] of different classes y [B]: a scale to read other distances by.

    Its interval is of one distance a picture, the mean over those of other classes.
    """
    with frozen(encoder):
        distances = PerceptualMetric(encoder).pairwise(x, x).double().cpu()
    others = (y[:, None] != y[None]).cpu()
    return mean_of((distances * others).sum(dim=1) / others.sum(dim=1))


def _attacked(encoder: ImageEncoder, x: Tensor, eps: float) -> Tensor:
    """The pictures in the ball that the encoder finds farthest from x, as far as Auto-PGD can tell."""
    with torch.no_grad():
        z = encoder(x)
    with noise.samples(torch.arange(len(x), device=x.device)):
        return APGD(Threat("linf", eps), steps=STEPS).perturb(lambda changed: cosine_distance(encoder(changed), z), x)


@torch.no_grad()
def _course(metric: PerceptualMetric, name: str, strengths: list[str], x: Tensor, changed: list[Tensor]) -> Course:
    distances = torch.stack([metric(x, each) for each in changed], dim=1).double().cpu()  # [B, S]
    rising = int((distances.diff(dim=1) > 0).all(dim=1).sum())
    return Course(
        change=name,
        strengths=strengths,
        distances=[mean_of(distances[:, place]) for place in range(len(changed))],
        rising=Estimate(rising / len(x), *wilson(rising, len(x))),
        shown=[x[0].cpu(), *(each[0].cpu() for each in changed)],
        shown_distances=distances[0].tolist(),
    )


def mean_of(values: Tensor) -> Estimate:
    """The mean of values [N], with its interval by the normal distribution."""
    mean = float(values.mean())
    half = Z95 * float(values.std()) / len(values) ** 0.5 if len(values) > 1 else float("inf")
    return Estimate(mean, mean - half, mean + half)
