"""Honest networks whose answers come in other units, types and wrappings."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.traps.case import LINF4, Case, honest
from eval.traps.nets import FRAGILE, ROBUST, Net, trained
from modules.perturb.threat import Threat


class Answers(nn.Module):
    """A network and a function of its logits.

    Args:
        net: to train.
        of: logits [B, K] -> logits [B, K].
    """

    def __init__(self, net: Net, of: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.of = trained(net), of

    def forward(self, x: Tensor) -> Tensor:
        """The function of the network's logits."""
        return self.of(self.net(x))


def answers(of: Callable[[Tensor], Tensor], net: Net = ROBUST, threat: Threat = LINF4) -> Case:
    """The case of a function of a network's logits that changes no class."""
    return Case(lambda: Answers(net, of), surrogates=[net], threat=threat)


@honest("scale")
def large_logits() -> Case:
    """A robust network whose logits are 30 times as large."""
    return answers(lambda z: 30 * z)


@honest("scale")
def larger_logits() -> Case:
    """A robust network whose logits are 200 times as large."""
    return answers(lambda z: 200 * z)


@honest("scale")
def small_logits() -> Case:
    """A robust network whose logits are a thirtieth as large."""
    return answers(lambda z: z / 30)


@honest("scale")
def offset_of_100() -> Case:
    """A robust network that adds 100 to all logits."""
    return answers(lambda z: z + 100)


@honest("scale")
def negative_logits() -> Case:
    """A fragile network that subtracts 20 from all logits."""
    return answers(lambda z: z - 20, FRAGILE, Threat("linf", 1 / 255))


@honest("scale")
def log_probabilities() -> Case:
    """A robust network that hands out log-probabilities."""
    return answers(lambda z: z.log_softmax(1))


@honest("scale")
def centered_logits() -> Case:
    """A robust network whose logits have mean zero and length 10."""
    return answers(lambda z: 10 * F.normalize(z - z.mean(1, keepdim=True), dim=1))


@honest("head")
def cosine_head() -> Case:
    """A robust network read by cosines to class vectors, times 100, as CLIP is."""

    def cosines(z: Tensor) -> Tensor:
        centered = F.normalize(z - z.mean(dim=1, keepdim=True), dim=1)
        vectors = F.normalize(torch.eye(10) - 0.1, dim=1)
        return 100 * centered @ vectors.T

    return answers(cosines)


@honest("type")
def bfloat16() -> Case:
    """A robust network computed in bfloat16."""

    class Victim(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = trained(ROBUST).bfloat16()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.bfloat16()).float()

    return Case(Victim, surrogates=[ROBUST], searchable=True)


@honest("type")
def bfloat16_behind_single_precision() -> Case:
    """A robust network whose layers behind the normalization of pixels are computed in bfloat16."""

    class Victim(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = trained(ROBUST).bfloat16()

        def forward(self, x: Tensor) -> Tensor:
            first, *rest = self.net.children()
            return nn.Sequential(*rest)(first(x).bfloat16()).float()

    return Case(Victim, surrogates=[ROBUST], searchable=True)


@honest("type")
def float64() -> Case:
    """A robust network computed in double precision."""

    class Victim(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = trained(ROBUST).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.double()).float()

    return Case(Victim, surrogates=[ROBUST])


@honest("wrapping")
def plain_function() -> Case:
    """A closure instead of a module."""
    net = trained(ROBUST)
    return Case(lambda: lambda x: net(x), surrogates=[ROBUST])


@honest("wrapping")
def partial_function() -> Case:
    """A functools.partial of a function of two arguments."""

    def scaled(factor: float, x: Tensor) -> Tensor:
        return factor * trained(ROBUST)(x)

    return Case(lambda: functools.partial(scaled, 2.0), surrogates=[ROBUST])


@honest("wrapping")
def bound_method() -> Case:
    """A method of an object that is no module."""

    class Service:
        def __init__(self) -> None:
            self.net = trained(FRAGILE)

        def classify(self, x: Tensor) -> Tensor:
            return self.net(x)

    return Case(lambda: Service().classify, surrogates=[FRAGILE], threat=Threat("linf", 1 / 255))


@honest("wrapping")
def trainable_parameters() -> Case:
    """A network whose parameters want gradients, with dropout in evaluation mode."""
    net = Net(dropout=0.3)
    return Case(lambda: trained(net).requires_grad_(True), surrogates=[net], threat=Threat("linf", 1 / 255))
