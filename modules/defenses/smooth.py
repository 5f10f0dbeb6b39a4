"""What stands in for a sign, a gate or a loop where an attacker has to differentiate a defence."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from modules.perturb.threat import per_image

SHARPNESS = 2.0  # of the smooth sign, in units of the gradient's mean size
GATE_SOFTNESS = 0.1  # of the smooth gate, in the gate's own units

M = TypeVar("M", bound=nn.Module)


def signs(grad: Tensor, *, soft: bool = False) -> Tensor:
    """sign(g) of a gradient [B, C, H, W], with the slope of tanh(k g / mean|g|), the mean taken image by image.

    Args:
        grad: the gradient.
        soft: give the tanh's values too.
    """
    size = grad.flatten(1).abs().mean(dim=1).clamp_min(1e-12)
    smooth = torch.tanh(SHARPNESS * grad / per_image(size, grad))
    return smooth if soft else smooth + (grad.sign() - smooth).detach()


def opened(opening: Tensor, *, soft: bool = False) -> Tensor:
    """[B] 1 where a gate's opening [B] is positive, else 0, with the slope of a sigmoid.

    Args:
        opening: in the gate's own units.
        soft: give the sigmoid's values too.
    """
    smooth = torch.sigmoid(opening / GATE_SOFTNESS)
    return smooth if soft else smooth + ((opening > 0).to(smooth.dtype) - smooth).detach()


def wants_gradient(x: Tensor) -> bool:
    """Whether somebody will differentiate what is made of x."""
    return torch.is_grad_enabled() and x.requires_grad


@contextmanager
def unrolling(x: Tensor) -> Iterator[bool]:
    """Whether to keep the graph of every step of a loop on x; inside, attention has a second derivative."""
    if not wants_gradient(x):
        yield False
        return
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have none
        yield True


def variant(defense: M, **changes: Any) -> M:
    """The same defence, weights shared, with some plain attributes changed."""
    twin = copy.copy(defense)
    unknown = changes.keys() - vars(twin).keys()
    assert not unknown, f"{type(defense).__name__} has no {', '.join(sorted(unknown))}"
    vars(twin).update(changes)
    return twin
