"""Parts that several traps are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from eval.traps.case import Case
from eval.traps.nets import FRAGILE, ROBUST, trained, untrained
from modules.attacks.base import Classifier

USELESS = 1e-3  # of other logits: a true gradient that leads nowhere


class Pair(nn.Module):
    """A fragile and a robust network, between which something decides."""

    def __init__(self) -> None:
        super().__init__()
        self.fragile, self.robust = trained(FRAGILE), trained(ROBUST)


class Around(nn.Module):
    """The fragile network, with something done around it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = trained(FRAGILE)


class Misled(Around):
    """The fragile network, which passes no gradient, plus a little of an untrained one, whose gradient is true."""

    def __init__(self) -> None:
        super().__init__()
        self.untrained = untrained()

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K]."""
        with torch.no_grad():
            logits = self.answer(x)
        return logits + USELESS * self.untrained(x)

    def answer(self, x: Tensor) -> Tensor:
        """Logits [B, K] whose gradient is not passed on."""
        return self.net(x)


class Function(nn.Module):
    """A module made of one function, for hooks and containers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """The function of x."""
        return self.function(x)


def of_fragile(model: Callable[[], Classifier], **more: Any) -> Case:
    """The case of a victim that a fragile network's points fool."""
    return Case(model, surrogates=[FRAGILE], **more)
