"""Gradients of pixels through float16: scaled on the way back, so that they neither underflow nor overflow.

The weights' gradients have a scaler (``torch.amp.GradScaler``); those of pixels are smaller still, differ between
images by many orders of magnitude, and a sign step along one that underflowed to zero does not move the image at all.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from modules.perturb.threat import per_image

_NODES = 32  # of the graph that are searched where no autocast says that there is float16: a head, or a purifier
_ENTRY = 6  # log2 of the largest gradient that enters float16, whose numbers reach from 2^-24 to 2^16
_LOWER, _HIGHER = -10, 9  # what an overflow and an underflow change of the exponent; 2^16 would not enter
_LIMIT = 100  # of the exponent: float32 itself must hold the scaled loss
_ATTEMPTS = 4


def entry_to_half(value: Tensor, device: str) -> GradientEdge | None:
    """Where the gradient of a loss enters float16 on its way back; None if it does not.

    Args:
        value: [B] loss.
        device: type of the device it was computed on.
    """
    root = value.grad_fn
    if root is None:
        return None
    amp = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) is torch.float16
    seen, todo = {root}, deque([(root, value.output_nr)])
    while todo and (amp or len(seen) < _NODES):
        node, output = todo.popleft()
        for child, number in node.next_functions:
            if child is None or child in seen:
                continue
            # No public attribute names the dtype of a node's gradients (torch 2.13).
            if child._input_metadata[number].dtype is torch.float16:
                return GradientEdge(node, output)
            seen.add(child)
            todo.append((child, number))
    return None


def scaled_gradient(value: Tensor, x: Tensor, entry: GradientEdge, *, create_graph: bool = False) -> Tensor:
    """Gradient [B, C, H, W] of the summed values [B] with respect to x, by way of float16.

    Every image's loss is multiplied by a power of two that brings its gradient to the same size where it enters
    float16, and its gradient is divided by that in single precision.  An image whose gradient overflows or vanishes
    all the same is tried again with another power.  In batches that couple their images the others' shares count as
    often as their losses were multiplied.

    Args:
        value: [B] loss.
        x: pixels.
        entry: of ``entry_to_half``.
        create_graph: keep the graph of the gradient.
    """
    (entering,) = torch.autograd.grad(value.sum(), entry, retain_graph=True)
    exponent, lively = _exponents(entering.detach(), len(x))
    pending = lively
    found: Tensor | None = None
    for attempt in range(_ATTEMPTS):
        scale = torch.exp2(exponent)
        (grad,) = torch.autograd.grad(
            value, x, scale.to(value.dtype), create_graph=create_graph, retain_graph=True, allow_unused=True
        )
        if grad is None:
            return torch.zeros_like(x)
        grad = (grad.float() if grad.dtype is torch.float16 else grad) / per_image(scale, grad)
        flat = grad.detach().flatten(1)
        finite, vanished = flat.isfinite().all(dim=1), (flat == 0).all(dim=1)
        found = grad if found is None else torch.where(per_image(pending, grad), grad, found)
        pending = lively & (~finite | vanished) if attempt == 0 else pending & ~finite
        if not pending.any():
            break
        exponent = exponent + torch.where(pending, torch.where(finite, _HIGHER, _LOWER), 0)
    assert found is not None
    return found.to(x.dtype)


def _exponents(entering: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """[B] powers of two that the losses are multiplied by, and whether an image has a gradient at all.

    Args:
        entering: gradient in single precision where it enters float16; any shape if images are not its first dimension.
        count: B.
    """
    size = entering.abs().float()
    apart = size.dim() > 0 and len(size) == count
    size = size.reshape(count, -1).amax(dim=1) if apart else size.amax().expand(count)
    lively = (size > 0) & size.isfinite()
    exponent = _ENTRY - torch.where(lively, size, 1.0).log2().floor()
    return torch.where(lively, exponent, 0.0).clamp(-_LIMIT, _LIMIT), lively
