"""Two traps that cost nothing: a linear model, honest and behind a gradient with the other sign."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eval.traps.broken.gradients import _Negated
from eval.traps.case import Case, Trap
from eval.traps.worlds import World
from modules.perturb.threat import Threat

WORLD = World(classes=2)
THREAT = Threat("linf", 6 / 255)


class Linear(nn.Module):
    """Tells zeros from ones by the difference of their mean images."""

    def __init__(self) -> None:
        super().__init__()
        x, y = WORLD.train()
        zero, one = (x[y == k].mean(dim=0).flatten() for k in (0, 1))
        self.weight, self.bias = one - zero, -(one - zero) @ (one + zero) / 2

    def forward(self, x: Tensor) -> Tensor:
        one = 10 * (x.flatten(1) @ self.weight + self.bias)
        return torch.stack([-one, one], dim=1)


class Misleading(Linear):
    def forward(self, x: Tensor) -> Tensor:
        turned = _Negated.apply(x)
        assert isinstance(turned, Tensor)
        return super().forward(turned)


def exact_accuracy(threat: Threat = THREAT) -> float:
    """Robust accuracy of the linear model, from its distance to the border."""
    x, y = WORLD.test()
    model = Linear()
    dual = {"linf": 1, "l2": 2, "l1": float("inf")}[threat.norm]
    distance = (x.flatten(1) @ model.weight + model.bias) * (2 * y - 1) / model.weight.norm(p=dual)
    return float((distance > threat.eps).float().mean())


def _linear() -> Case:
    return Case(Linear, world=WORLD, threat=THREAT, searchable=True)


def _turned() -> Case:
    return Case(Misleading, [Linear()], world=WORLD, threat=THREAT)


TOYS = {
    "linear": Trap("linear", "toy", False, "A linear model", _linear),
    "turned": Trap("turned", "toy", True, "A linear model that turns gradients", _turned),
}
