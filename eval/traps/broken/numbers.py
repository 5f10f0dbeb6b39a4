"""Victims whose arithmetic loses what an attack needs: half precision, eight bits, scales out of range."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eval.traps.broken.parts import Around, Misled, of_fragile
from eval.traps.broken.plateaus import answers
from eval.traps.case import Case, broken
from eval.traps.nets import FRAGILE, trained


@broken("dtype")
def half_precision_underflow() -> Case:
    """Hands out logits so small that their gradient underflows in half precision."""
    return answers(lambda z: 1e-9 * z.half().float())


@broken("dtype")
def half_precision_overflow() -> Case:
    """Scales logits beyond the range of half precision, where they are all equal."""
    return answers(lambda z: (3e4 * z).clamp(-65504, 65504).half().float() + 1e-3 * z.detach())


@broken("dtype")
def half_precision_probabilities() -> Case:
    """Hands out logarithms of probabilities that half precision rounds to zero and one."""
    return answers(lambda z: (3 * z).softmax(1).half().float().clamp_min(1e-7).log())


def eight_bits(w: Tensor, steps: int = 127) -> Tensor:
    """w rounded to 2 * steps + 1 levels; the derivative is zero."""
    scale = w.abs().amax() / steps
    return (w / scale).round() * scale


@broken("dtype")
def eight_bit_activations() -> Case:
    """Computes with weights and activations of eight bits, through which no gradient passes."""
    return of_fragile(_in_eight_bits)


def _in_eight_bits() -> nn.Module:
    class Rounded(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            return eight_bits(self.layer(x))

    net = trained(FRAGILE)
    assert isinstance(net, nn.Sequential)
    for name, layer in list(net.named_children()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight.data = eight_bits(layer.weight.data)
            setattr(net, name, Rounded(layer))
    return net


@broken("dtype")
def eight_bit_activations_that_mislead() -> Case:
    """Computes in eight bits, and adds a little of an untrained network, whose gradient is true."""

    class Victim(Misled):
        def __init__(self) -> None:
            super().__init__()
            self.net = _in_eight_bits()

    return of_fragile(Victim)


@broken("dtype")
def huge_logits() -> Case:
    """Hands out logits a million times too large: no cross-entropy has a gradient."""
    return answers(lambda z: 1e6 * z)


@broken("dtype")
def offset_logits() -> Case:
    """Adds 3e7 to all logits, so that single precision rounds them to even numbers."""
    return answers(lambda z: z + 3e7)


@broken("dtype")
def probabilities() -> Case:
    """Hands out probabilities as logits, rounded to three digits."""
    return answers(lambda z: ((5 * z).softmax(1) * 1e3).round() / 1e3 + 0 * z)


@broken("dtype")
def not_a_number() -> Case:
    """Has a gradient that is not finite, by a square root at zero."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x) + torch.sqrt((x - x.detach()).abs().flatten(1).sum(dim=1, keepdim=True))

    return of_fragile(Victim)
