"""Victims that watch or round pixels: not every image that an attack finds is stored, or classified, as it is."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from eval.traps.broken.parts import USELESS, Around, Misled, Pair, of_fragile
from eval.traps.case import Case, broken
from eval.traps.nets import FRAGILE, Net, trained
from eval.traps.truth import targeted
from eval.traps.worlds import FAINT, to_grid
from modules.perturb.threat import Threat


def off_the_grid(x: Tensor) -> Tensor:
    """[B] whether an image has a pixel that is none of the 256 gray levels."""
    return ((x * 255 - (x * 255).round()).abs() > 0.02).flatten(1).any(dim=1)


@broken("quantization")
def detects_off_grid_pixels() -> Case:
    """Answers images off the 8-bit grid by the robust network; eps is no whole number of gray levels."""

    class Victim(Pair):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(off_the_grid(x)[:, None], self.robust(x), self.fragile(x))

    return of_fragile(Victim, threat=Threat("linf", 3.5 / 255))


@broken("quantization")
def scrambles_off_grid_pixels() -> Case:
    """Mirrors images off the 8-bit grid before it classifies them, at linf 2.5/255."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(torch.where(off_the_grid(x)[:, None, None, None], x.flip(-1).detach(), x))

    return of_fragile(Victim, threat=Threat("linf", 2.5 / 255))


@broken("quantization")
def detects_off_grid_pixels_in_l2() -> Case:
    """Answers images off the 8-bit grid by the robust network, in an l2 ball."""

    class Victim(Pair):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(off_the_grid(x)[:, None], self.robust(x), self.fragile(x))

    def stored(x: Tensor, y: Tensor) -> Iterator[Tensor]:
        for radius in (0.06, 0.07, 0.08, 0.09, 0.095):
            yield to_grid(targeted(trained(FRAGILE), x, y, Threat("l2", radius)))

    return Case(Victim, threat=Threat("l2", 0.1), extra=stored)


@broken("quantization")
def knows_the_palette() -> Case:
    """Answers by the robust network what has gray levels other than multiples of 3."""

    class Victim(Pair):
        def forward(self, x: Tensor) -> Tensor:
            other = ((x * 85 - (x * 85).round()).abs() > 0.01).flatten(1).float().mean(dim=1) > 0.5
            return torch.where(other[:, None], self.robust(x), self.fragile(x))

    def on_palette(x: Tensor, y: Tensor) -> Iterator[Tensor]:
        found = targeted(trained(FRAGILE), x, y, Threat("linf", 3 / 255))
        low, high = torch.ceil((x - 4 / 255) * 85 - 1e-3), torch.floor((x + 4 / 255) * 85 + 1e-3)
        yield ((found * 85).round().clamp(low, high)) / 85

    return Case(Victim, extra=on_palette)


@broken("quantization")
def rounds_pixels() -> Case:
    """Rounds pixels to 64 levels; the derivative of rounding is zero."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            return self.net((x * 63).round() / 63)

    return of_fragile(Victim)


@broken("quantization")
def rounds_pixels_and_misleads() -> Case:
    """Rounds pixels to 85 levels, and adds a little of an untrained network, whose gradient is true."""

    class Victim(Misled):
        def answer(self, x: Tensor) -> Tensor:
            return self.net((x * 85).round() / 85)

    return of_fragile(Victim)


def cosine_transform(side: int) -> Tensor:
    """Orthonormal basis [side, side] of the discrete cosine transform."""
    n = torch.arange(side)
    basis = torch.cos(torch.pi / side * (n[:, None] + 0.5) * n[None]) * (2 / side) ** 0.5
    basis[:, 0] /= 2**0.5
    return basis


def compressed(x: Tensor, step: float = 0.02) -> Tensor:
    """x [B, C, H, W] with its cosine coefficients rounded to multiples of ``step``."""
    basis = cosine_transform(x.shape[-1])
    return basis @ (step * ((basis.T @ x @ basis) / step).round()) @ basis.T


@broken("quantization")
def compresses() -> Case:
    """Rounds the coefficients of a cosine transform, as JPEG does; the derivative is zero."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(compressed(x))

    return of_fragile(Victim)


@broken("quantization")
def compresses_and_misleads() -> Case:
    """Rounds the coefficients of a cosine transform, and adds a little of an untrained network."""

    class Victim(Misled):
        def answer(self, x: Tensor) -> Tensor:
            return self.net(compressed(x))

    return of_fragile(Victim)


@broken("gradient shattering")
def thermometer_codes() -> Case:
    """Reads pixels as unary codes, through which no gradient passes."""
    net = Net(body="thermometer", epochs=8)
    return Case(lambda: trained(net), surrogates=[smooth_thermometer(net), FRAGILE])


@broken("gradient shattering")
def thermometer_codes_that_mislead() -> Case:
    """Reads pixels as unary codes, and adds a little of an untrained network."""
    net = Net(body="thermometer", epochs=8)

    class Victim(Misled):
        def __init__(self) -> None:
            super().__init__()
            self.net = trained(net)

    return Case(Victim, surrogates=[smooth_thermometer(net), FRAGILE])


@cache
def smooth_thermometer(net: Net) -> torch.nn.Module:
    """The network behind a smooth unary code."""
    model = trained(net)
    model[0].compare = lambda above: torch.sigmoid(above / (0.02 * net.world.contrast))  # pyright: ignore
    return model


@broken("gradient shattering")
def ripples() -> Case:
    """Adds ripples far finer than a gray level: a true gradient that leads nowhere."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x + 0.004 * torch.sin(1e5 * x))

    return of_fragile(Victim)


@broken("purification")
def nearest_training_image() -> Case:
    """Classifies the nearest training image instead, plus a little of the image itself."""

    class Victim(Around):
        def __init__(self) -> None:
            super().__init__()
            self.stored = FAINT.train()[0]

        def forward(self, x: Tensor) -> Tensor:
            near = torch.cdist(x.detach().flatten(1), self.stored.flatten(1)).argmin(dim=1)
            return self.net(self.stored[near]) + USELESS * self.net(x)

    def towards_others(x: Tensor, y: Tensor) -> Iterator[Tensor]:
        stored, labels = FAINT.train()
        distance = torch.cdist(x.flatten(1), stored.flatten(1))
        distance = distance.masked_fill(labels[None] == y[:, None], torch.inf)
        yield from (stored[index] for index in distance.topk(12, largest=False).indices.T)

    return Case(Victim, extra=towards_others)


@broken("purification")
def median_of_levels() -> Case:
    """Replaces pixels by the median of their neighborhood in coarse levels, and passes a gradient of ones."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            padded = torch.nn.functional.pad(x.detach(), (1, 1, 0, 0), mode="reflect")
            median = torch.stack([padded[..., :-2], padded[..., 1:-1], padded[..., 2:]]).median(dim=0).values
            looked_at = 0.75 * x.detach() + 0.25 * median
            return self.net((looked_at * 85).round() / 85 + (x - x.detach()).flip(-1))

    return of_fragile(Victim)
