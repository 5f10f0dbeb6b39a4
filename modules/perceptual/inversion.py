"""Looking into an encoder: the image whose embedding points where one wants it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from modules import noise
from modules.attacks.apgd import APGD
from modules.choices import check_choice
from modules.encoders.base import ImageEncoder, frozen
from modules.perceptual.metric import unit
from modules.perturb.ascent import ascend
from modules.perturb.threat import Threat

Start = Literal["grey", "noise"]

_SIDE = 32  # pixels of the embedded model, on which the defaults were tried


@dataclass(frozen=True)
class Inverting:
    """How an image is looked for.  Nothing is known of the settings behind published pictures; these are ours.

    An encoder is looked into through images that are moved and made noisy a little, anew in every step: what only a
    single arrangement of pixels brings about does not survive that (augmentations of arXiv:2403.02580).

    Attributes:
        radius: of the Euclidean ball around the start, in [0, 1] pixels; None leaves the whole box.
        steps: of the ascent.
        step_size: Euclidean length of the first step, from which they shrink linearly to nothing; None takes Auto-PGD,
            whose first step is as long as the ball is wide.
        variation: weight of the total variation, which is taken off the cosine.
        shift: pixels by which the image is moved at most, in each direction; its border is repeated.
        spread: standard deviation of the noise on the pixels.
        looks: random ones, averaged in every step.

    Raises:
        ValueError: a setting cannot be.
    """

    radius: float | None = 10.0
    steps: int = 60
    step_size: float | None = 1.0
    variation: float = 0.0
    shift: int = 3
    spread: float = 0.15
    looks: int = 2

    def __post_init__(self) -> None:
        if self.steps < 1 or self.looks < 1:
            raise ValueError(f"an inversion takes at least one step and one look, not {self.steps} and {self.looks}")
        for name in ("radius", "step_size", "variation", "shift", "spread"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{name} is {value}; it must be a number that is not negative")

    @classmethod
    def at(cls, size: int, **said: Any) -> Inverting:
        """The defaults, whose lengths are for images of 32 pixels a side, for images of ``size``; and what is said.

        Raises:
            ValueError: as the class.
        """
        scale = size / _SIDE
        return cls(**{"radius": 10.0 * scale, "step_size": scale, "shift": round(3 * scale), **said})


@dataclass
class Inversion:
    """Images found for targets.

    Attributes:
        x: [B, 3, H, W] in [0, 1].
        cosine: [B] of their embeddings to the targets, neither moved nor noisy.
        distance: [B] Euclidean, from the start.
        snapshots: (steps taken, images [B, 3, H, W]) on the way, the start first, the result last.
    """

    x: Tensor
    cosine: Tensor
    distance: Tensor
    snapshots: list[tuple[int, Tensor]] = field(default_factory=list)


class _Toward:
    """[B] cosine to the targets over random looks, less the total variation; takes pictures after some steps."""

    def __init__(self, encoder: ImageEncoder, targets: Tensor, how: Inverting, pictures: set[int]) -> None:
        self.encoder, self.targets, self.how, self.pictures = encoder, unit(targets), how, pictures
        self.on_step: Callable[[], object] = lambda: None
        self.steps = 0
        self.best: Tensor | None = None
        self.value = torch.full((len(targets),), -torch.inf, device=targets.device)
        self.snapshots: list[tuple[int, Tensor]] = []

    def __call__(self, x: Tensor) -> Tensor:
        value = torch.stack([self._look(x, number) for number in range(self.how.looks)]).mean(dim=0)
        if self.how.variation:
            value = value - self.how.variation * total_variation(x)
        self._keep(x.detach(), value.detach())
        return value

    def _look(self, x: Tensor, number: int) -> Tensor:
        with noise.redraw(x, self.steps * self.how.looks + number):
            if self.how.shift:
                x = moved(x, noise.integers(x, "inversion/shift", -self.how.shift, self.how.shift, (2,)))
            if self.how.spread:
                x = x + self.how.spread * noise.normal(x, "inversion/noise")
            return (unit(self.encoder(x)) * self.targets).sum(dim=-1)

    def _keep(self, x: Tensor, value: Tensor) -> None:
        better = value > self.value if self.how.step_size is None else torch.ones_like(value, dtype=torch.bool)
        self.value = torch.where(better, value, self.value)
        self.best = x if self.best is None else torch.where(better[:, None, None, None], x, self.best)
        if self.steps in self.pictures:
            self.snapshots.append((self.steps, self.best.cpu()))
        self.steps += 1
        self.on_step()


def moved(x: Tensor, by: Tensor) -> Tensor:
    """Images x [B, C, H, W] moved by whole pixels, by [B, 2] down and right; what comes in repeats the border."""
    height, width = x.shape[-2:]
    rows = (torch.arange(height, device=x.device) - by[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=x.device) - by[:, 1:]).clamp(0, width - 1)
    x = x.gather(2, rows[:, None, :, None].expand(x.shape))
    return x.gather(3, columns[:, None, None, :].expand(x.shape))


def total_variation(x: Tensor) -> Tensor:
    """[B] sum of absolute differences of neighbouring pixels of x [B, C, H, W]."""
    across, down = (x[..., 1:] - x[..., :-1]).abs(), (x[..., 1:, :] - x[..., :-1, :]).abs()
    return across.flatten(1).sum(dim=1) + down.flatten(1).sum(dim=1)


def invert(
    encoder: ImageEncoder,
    targets: Tensor,
    how: Inverting | None = None,
    /,
    *,
    start: Start | Tensor = "grey",
    snapshots: int = 0,
    seed: int = 0,
    on_step: Callable[[], object] = lambda: None,
) -> Inversion:
    """Images whose embeddings point towards the targets.

    max over x of cos(f(x), target) with ||x - x0||_2 <= radius and x in the box, by gradient ascent from x0.  Targets
    with the same place in the batch meet the same start and the same looks, whatever the encoder: pictures of two
    encoders can be compared.

    Args:
        encoder: of images; its mode and gradient flags are as before afterwards.
        targets: [B, D] embeddings of images (feature inversion) or texts (text inversion).
        how: the search; its defaults where none is said.
        start: ``grey`` 0.5, seeded uniform ``noise``, or images [B or 1, 3, H, W] in [0, 1].
        snapshots: how many pictures to keep on the way, the start not counted.
        seed: of every random number.
        on_step: called once for each step.

    Raises:
        ValueError: the targets or the start do not fit the encoder.
    """
    if not isinstance(start, Tensor):
        check_choice("start", start, Start)
    how = how or Inverting()
    if targets.dim() != 2 or targets.shape[1] != encoder.embedding_dim:
        raise ValueError(
            f"targets are {list(targets.shape)}; this encoder's embeddings are [B, {encoder.embedding_dim}]"
        )
    if snapshots < 0:
        raise ValueError(f"snapshots={snapshots} cannot be negative")
    with noise.samples(torch.arange(len(targets), device=targets.device), seed=seed), frozen(encoder):
        x0 = _start(start, encoder.image_size, targets)
        whole = float(x0[0].numel()) ** 0.5  # no point of the box is farther from another
        threat = Threat("l2", whole if how.radius is None else how.radius)
        toward = _Toward(encoder, targets, how, _when(snapshots, how.steps))
        toward.on_step = on_step
        x = _climb(toward, x0, threat, how)
        with torch.no_grad():
            cosine = (unit(encoder(x)) * unit(targets)).sum(dim=-1)
    pictures = [(0, x0.cpu()), *toward.snapshots, (how.steps, x.cpu())] if snapshots else []
    return Inversion(x, cosine, (x - x0).flatten(1).norm(dim=1), pictures)


def _climb(toward: _Toward, x0: Tensor, threat: Threat, how: Inverting) -> Tensor:
    """The last point of steps that shrink linearly, or the best one of Auto-PGD."""
    if how.step_size is None:
        return APGD(threat, steps=how.steps, random_start=False).perturb(toward, x0, "inversion")
    taken = iter(range(how.steps))

    def shrinking(grad: Tensor) -> Tensor:
        return threat.steepest(grad) * (1 - next(taken) / how.steps)

    x = x0
    for iterate in ascend(toward, x0, threat, steps=how.steps, step_size=how.step_size, direction=shrinking):
        x = iterate.x
    return x


def _start(start: Start | Tensor, size: int, targets: Tensor) -> Tensor:
    shape = (len(targets), 3, size, size)
    if isinstance(start, Tensor):
        if start.dim() != 4 or start.shape[1:] != shape[1:] or len(start) not in (1, len(targets)):
            raise ValueError(f"the start is {list(start.shape)}; it must be one image or one for each of {list(shape)}")
        return start.to(targets.device).expand(shape).clone()
    grey = torch.full(shape, 0.5, device=targets.device)
    return grey if start == "grey" else noise.uniform(grey, "inversion/start")


def _when(count: int, steps: int) -> set[int]:
    """``count`` numbers up to ``steps``, closer together at the start, without the last."""
    return {max(1, round(steps ** ((i + 1) / count))) for i in range(count)} - {steps}
