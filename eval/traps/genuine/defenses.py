"""Honest ensembles, purifiers and declared noise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.traps.case import LINF4, Case, honest
from eval.traps.nets import FRAGILE, ROBUST, Net, trained
from modules.defenses.base import Defense
from modules.defenses.low_pass import LowPass
from modules.defenses.random_noise import RandomNoise
from modules.defenses.smoothing import RandomizedSmoothing
from modules.encoders.base import ImageEncoder
from modules.perturb.threat import Threat


class Mean(nn.Module):
    """Mean logits of several networks."""

    def __init__(self, *nets: Net) -> None:
        super().__init__()
        self.nets = nn.ModuleList([trained(net) for net in nets])

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K]."""
        return torch.stack([net(x) for net in self.nets]).mean(dim=0)


@honest("ensemble")
def ensemble_of_two() -> Case:
    """The mean logits of a fragile and a robust network."""
    return Case(lambda: Mean(FRAGILE, ROBUST), searchable=True, threat=Threat("linf", 2 / 255))


@honest("ensemble")
def ensemble_of_robust_ones() -> Case:
    """The mean logits of two robust networks."""
    other = Net(activation="gelu", training="adversarial", epochs=12)
    return Case(lambda: Mean(ROBUST, other), searchable=True)


@honest("preprocessing")
def averages_pixels() -> Case:
    """A fragile network behind an average over neighboring pixels."""

    class Victim(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = trained(FRAGILE)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, stride=1) * 0.3 + 0.7 * x)

    return Case(Victim, searchable=True, threat=Threat("linf", 2 / 255))


@honest("preprocessing")
def low_pass() -> Case:
    """A robust network behind a low-pass filter."""
    return behind(lambda encoder: LowPass(encoder, radius=90.0), ROBUST)


@honest("preprocessing")
def gray() -> Case:
    """A robust network that looks at the mean of the channels."""

    class Gray(Defense):
        def purify_pixels(self, x: Tensor) -> Tensor:
            return x.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)

    return behind(Gray, ROBUST)


@honest("test-time augmentation")
def shifts() -> Case:
    """The mean logits of an image and its shifts by a pixel."""

    class Victim(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = trained(ROBUST)

        def forward(self, x: Tensor) -> Tensor:
            return (2 * self.net(x) + self.net(x.roll(1, 3)) + self.net(x.roll(-1, 3))) / 4

    return Case(Victim, searchable=True)


@honest("test-time augmentation")
def brightnesses() -> Case:
    """The mean logits of an image in three brightnesses."""

    class Victim(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = trained(FRAGILE)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.net(x + shift) for shift in (-0.004, 0.0, 0.004)]).mean(dim=0)

    return Case(Victim, searchable=True, threat=Threat("linf", 1 / 255))


@honest("declared noise")
def random_noise() -> Case:
    """A robust network behind declared noise of 0.5/255."""
    return behind(lambda encoder: RandomNoise(encoder, eps=0.5 / 255), ROBUST, draws=10)


@honest("declared noise")
def random_noise_before_a_fragile_one() -> Case:
    """A fragile network behind declared noise of 4/255."""
    return behind(lambda encoder: RandomNoise(encoder, eps=4 / 255), FRAGILE, draws=10)


@honest("declared noise")
def smoothing() -> Case:
    """Randomized smoothing of a network that was trained under noise, in an l2 ball."""
    net = Net(training="noisy", eps=12 / 255)
    return behind(lambda encoder: RandomizedSmoothing(encoder, sigma=8 / 255, draws=2), net, Threat("l2", 0.1), 10)


def behind(defense: type[Defense] | object, net: Net, threat: Threat = LINF4, draws: int = 1) -> Case:
    """The case of a network behind a defense."""

    def defend(encoder: ImageEncoder) -> Defense:
        return defense(encoder)  # pyright: ignore[reportCallIssue]

    searchable = draws == 1
    return Case(lambda: trained(net), [net], defend, threat=threat, searchable=searchable, draws=draws)
