"""The one ascent behind every perturbation of pixels: PGD, FARE's inner loop, TTC's counterattack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from modules.perturb.half_precision import entry_to_half, scaled_gradient
from modules.perturb.losses import Loss
from modules.perturb.threat import Threat


class Iterate(NamedTuple):
    """A point of an ascent and the loss there.

    Attributes:
        x: [B, C, H, W] pixels.
        value: [B] loss at ``x``; None at the last point, where nobody asked for it.
    """

    x: Tensor
    value: Tensor | None


@torch.enable_grad()
def slope(value: Tensor, x: Tensor, *, create_graph: bool = False, retain_graph: bool = False) -> Tensor:
    """Gradient [B, C, H, W] of the summed values [B] with respect to x; zero where no gradient reaches x at all.

    Where it passes through float16 (``precision=16-mixed``, a model in half precision) it is scaled on the way.

    Args:
        value: loss of each image.
        x: pixels.
        create_graph: keep the graph of the gradient, to differentiate it again.
        retain_graph: keep the graph of the loss, for another gradient.
    """
    if not value.requires_grad:
        return torch.zeros_like(x)
    entry = entry_to_half(value, x.device.type)
    if entry is not None:
        # Autocast would bring the head's gradients to float16 too, which was spared it on the way forward.
        with torch.autocast(x.device.type, enabled=False):
            return scaled_gradient(value, x, entry, create_graph=create_graph)
    keep = retain_graph or create_graph
    (grad,) = torch.autograd.grad(value.sum(), x, create_graph=create_graph, retain_graph=keep, allow_unused=True)
    return torch.zeros_like(x) if grad is None else grad


def ascend(
    loss: Loss,
    x: Tensor,
    threat: Threat,
    *,
    steps: int,
    step_size: float,
    start: Tensor | None = None,
    direction: Callable[[Tensor], Tensor] | None = None,
    differentiable: bool = False,
) -> Iterator[Iterate]:
    """The iterates of projected gradient ascent on a per-image loss, ``steps`` + 1 of them.

    Each step moves by ``step_size`` along the threat's steepest direction and projects to ball and box
    (arXiv:1706.06083).  A loss that measures distance from ``x`` has gradient zero there: give it a random start.

    Args:
        loss: pixels [B, C, H, W] -> [B].
        x: images to perturb, in [0, 1].
        threat: the ball.
        steps: gradient steps.
        step_size: in [0, 1] pixels, under the threat's norm.
        start: perturbation [B, C, H, W] to start from; none starts at ``x`` itself.
        direction: gradient [B, C, H, W] -> direction; by default ``threat.steepest``.
        differentiable: keep the graph of every step, so that the caller can differentiate through the ascent.
    """
    direction = direction or threat.steepest
    point = x if start is None else (x + start).clamp(0.0, 1.0)
    for _ in range(steps):
        leaf = point if differentiable and point.requires_grad else point.detach().requires_grad_()
        with torch.enable_grad():  # never around a yield: the caller's grad mode is its own
            value = loss(leaf)
            grad = slope(value, leaf, create_graph=differentiable)
            moved = threat.confine(x, leaf + step_size * direction(grad))
        # A value that kept its graph would hold the activations until the next one is computed.
        yield Iterate(leaf, value) if differentiable else Iterate(leaf.detach(), value.detach())
        point = moved if differentiable else moved.detach()
    yield Iterate(point, None)
