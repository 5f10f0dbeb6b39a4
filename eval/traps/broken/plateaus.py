"""Victims whose answers hardly move, or do not move at all, until they jump."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.traps.broken.parts import USELESS, Around, Misled, of_fragile
from eval.traps.case import Case, broken
from eval.traps.nets import FRAGILE, ROBUST, trained
from modules.perturb.threat import Threat

SHIFTS = ((0, 0), (1, 0), (0, 1), (-1, 0), (0, -1))


class Votes(Misled):
    """Shifted copies vote with hard labels, plus a little of an untrained network."""

    def answer(self, x: Tensor) -> Tensor:
        """Votes [B, K]."""
        padded = [x.roll(shift, (2, 3)) for shift in SHIFTS[:3]]
        return torch.stack([F.one_hot(self.net(image).argmax(1), 10).float() for image in [x, x, *padded]]).sum(dim=0)


def soft_vote(x: Tensor) -> Tensor:
    """What the votes would be with soft labels."""
    net = trained(FRAGILE)
    return (3 * net(x).softmax(1) + sum(net(x.roll(s, (2, 3))).softmax(1) for s in SHIFTS[1:3])).log()


def _votes(eps: float) -> Case:
    return Case(Votes, surrogates=[FRAGILE, soft_vote], threat=Threat("linf", eps / 255))


@broken("plateau")
def hard_vote_at_1() -> Case:
    """Hard votes plus a gradient that leads nowhere, at linf 1/255."""
    return _votes(1)


@broken("plateau")
def hard_vote_at_2() -> Case:
    """Hard votes plus a gradient that leads nowhere, at linf 2/255."""
    return _votes(2)


@broken("plateau")
def hard_vote_at_4() -> Case:
    """Hard votes plus a gradient that leads nowhere, at linf 4/255."""
    return _votes(4)


@broken("plateau")
def hard_vote_in_l2() -> Case:
    """Hard votes plus a gradient that leads nowhere, in an l2 ball."""
    return Case(Votes, surrogates=[FRAGILE, soft_vote], threat=Threat("l2", 0.08))


def answers(of: Callable[[Tensor], Tensor], **more: object) -> Case:
    """The case of a fragile network whose logits [B, K] something is made of."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            return of(self.net(x))

    return of_fragile(Victim, **more)


@broken("plateau")
def one_hot() -> Case:
    """Hands out the class as a one-hot vector."""
    return answers(lambda z: F.one_hot(z.argmax(1), 10).float() + 0 * z)


@broken("plateau")
def clamped_log_probabilities() -> Case:
    """Hands out log-probabilities no lower than -0.05 and -5."""
    return answers(lambda z: (10 * z).log_softmax(1).clamp(-5, -0.05))


@broken("plateau")
def rounded_logits_that_mislead() -> Case:
    """Rounds logits to whole multiples of 4, and adds a little of an untrained network."""

    class Victim(Misled):
        def answer(self, x: Tensor) -> Tensor:
            return (self.net(x) / 4).round() * 4

    return of_fragile(Victim, threat=Threat("linf", 2 / 255))


@broken("plateau")
def clamped_logits() -> Case:
    """Cuts logits at 2, so that sure answers have no gradient; ties go to the true order by a hair."""
    return answers(lambda z: z.clamp(-2, 2) + 1e-6 * z.detach())


@broken("plateau")
def saturated_tanh() -> Case:
    """Squeezes logits through so steep a tanh that it is one exactly."""
    return answers(lambda z: torch.tanh(1e3 * (z - z.topk(2, dim=1).values.mean(dim=1, keepdim=True).detach())))


@broken("plateau")
def low_temperature() -> Case:
    """Divides logits by a temperature of 1e-4 and hands out clamped probabilities."""
    return answers(lambda z: (1e4 * z).softmax(1).clamp_min(1e-12).log())


@broken("plateau")
def high_temperature() -> Case:
    """Divides logits by a temperature of 1e4 and rounds them to half precision around 1."""
    return answers(lambda z: (1 + 1e-3 * z).half().float())


@broken("plateau")
def staircase_activations() -> Case:
    """Rounds the activations of its first layers, through which no gradient passes."""
    return of_fragile(lambda: _with_stairs(0.0))


@broken("plateau")
def sloping_staircase() -> Case:
    """Rounds activations coarsely, and passes a hundredth of them on as they are, with their signs turned."""
    return of_fragile(lambda: _with_stairs(-0.01))


def _with_stairs(slope: float) -> nn.Module:
    class Stairs(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return (F.relu(z.detach()) * 6).round() / 6 + slope * (z - z.detach())

    net = trained(FRAGILE)
    assert isinstance(net, nn.Sequential)
    net[3] = Stairs()
    return net


@broken("plateau")
def smoothed_labels() -> Case:
    """Mixes the class, as a one-hot vector, with a robust network's small logits."""

    class Victim(Around):
        def __init__(self) -> None:
            super().__init__()
            self.robust = trained(ROBUST)

        def forward(self, x: Tensor) -> Tensor:
            return 10.0 * F.one_hot(self.net(x).argmax(1), 10) + USELESS * self.robust(x)

    return of_fragile(Victim)
