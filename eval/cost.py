"""What a defence costs: passes through the encoder that it wraps, counted, and time, measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from eval.card import Cost
from modules.defenses.base import Defense
from modules.defenses.routes import undefended
from modules.encoders.base import ImageEncoder

REPEATS = 3
_BARE_GRADIENT = 3.0  # one pass forwards, and one back that costs two


@dataclass
class Passes:
    """Images that went through an encoder: ``forwards``, and ``backwards`` again."""

    forwards: int = 0
    backwards: int = 0


@contextmanager
def counted(encoder: ImageEncoder) -> Iterator[Passes]:
    """Count the images that pass through ``encoder`` inside."""
    passes, encode = Passes(), encoder.encode_image

    def watched(x: Tensor) -> Tensor:
        z = encode(x)
        passes.forwards += len(x)
        if z.requires_grad:

            def count(grad: Tensor) -> None:
                passes.backwards += len(grad)

            z.register_hook(count)
        return z

    encoder.encode_image = watched  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield passes
    finally:
        del encoder.encode_image  # pyright: ignore[reportAttributeAccessIssue]


@torch.no_grad()
def cost_of(defense: Defense, classify: Callable[[ImageEncoder, Tensor], Tensor], x: Tensor) -> Cost:
    """The cost of classifying each of the images x [B, 3, H, W] behind a defence.

    Args:
        defense: the defence.
        classify: (encoder, images) -> logits.
        x: images, as many as a batch has.
    """
    bare = undefended(defense)
    with counted(bare) as passes:
        classify(defense, x)
    return Cost(
        forwards=passes.forwards / len(x),
        backwards=passes.backwards / len(x),
        milliseconds=_milliseconds(lambda: classify(defense, x), x),
        bare_milliseconds=_milliseconds(lambda: classify(bare, x), x),
        batch=len(x),
    )


def _milliseconds(work: Callable[[], Tensor], x: Tensor) -> float:
    """Per image, the quickest of a few runs after one that warms up."""
    work()
    best = float("inf")
    for _ in range(REPEATS):
        begin = time.perf_counter()
        work()
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        best = min(best, time.perf_counter() - begin)
    return 1000 * best / len(x)


def gradient_ratio(defense: Defense, classify: Callable[[ImageEncoder, Tensor], Tensor], x: Tensor) -> float:
    """How many times dearer an attacker's gradient is through the defence than through the bare encoder, counted.

    Args:
        defense: the defence.
        classify: (encoder, images) -> logits.
        x: a few images [B, 3, H, W].
    """
    with counted(undefended(defense)) as passes, torch.enable_grad():
        leaf = x.detach().requires_grad_()
        logits = classify(defense.differentiable(), leaf)
        if logits.requires_grad:
            torch.autograd.grad(logits.sum(), leaf, allow_unused=True)
    return (passes.forwards + 2 * passes.backwards) / len(x) / _BARE_GRADIENT
