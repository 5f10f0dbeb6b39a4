"""What a step of a training tells of itself where somebody has asked; nothing of it changes the step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from modules.encoders.base import ImageEncoder
from modules.perturb.losses import Loss


class StepWatch:
    """Values of the optimizer step at hand, kept on the device until somebody takes them.

    Attributes:
        wanted: the values of this step will be taken; nothing is kept otherwise.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._values: dict[str, list[Tensor]] = {}

    def note(self, name: str, values: Tensor) -> None:
        """Keep the mean of values [B] of one of the step's batches."""
        if self.wanted:
            self._values.setdefault(name, []).append(values.detach().float().mean())

    def take(self) -> dict[str, Tensor]:
        """Means over the step's batches, scalars; they are forgotten, and nothing is wanted any more."""
        found, self._values, self.wanted = self._values, {}, False
        return {name: torch.stack(values).mean() for name, values in found.items()}


class Climb:
    """A per-image loss that remembers where its ascent began and how high it came.

    Args:
        loss: pixels [B, C, H, W] -> [B].
    """

    def __init__(self, loss: Loss, /) -> None:
        self.loss = loss
        self._first: Tensor | None = None
        self._highest: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """The loss [B] of x [B, C, H, W]."""
        value = self.loss(x)
        seen = value.detach()
        self._first = seen if self._first is None else self._first
        self._highest = seen if self._highest is None else torch.maximum(self._highest, seen)
        return value

    @torch.no_grad()
    def gain(self, x_adv: Tensor, *, highest: bool) -> Tensor:
        """[B] the loss at the end of the ascent minus the loss at its start; 0 where there was no ascent.

        Args:
            x_adv: the end [B, C, H, W].
            highest: the end is the highest point that was looked at, so that its loss is known; otherwise it is
                computed, by one pass forwards.
        """
        if self._first is None or self._highest is None:
            return torch.zeros(len(x_adv), device=x_adv.device)
        return (self._highest if highest else self.loss(x_adv)) - self._first


@contextmanager
def embedding_of(encoder: ImageEncoder, x: Tensor, *, wanted: bool = True) -> Iterator[list[Tensor]]:
    """The embedding [B, D] that ``encoder`` computes of this very tensor x inside, once somebody asks it to.

    Args:
        encoder: is asked by others.
        x: pixels [B, 3, H, W].
        wanted: look at all.
    """
    found: list[Tensor] = []
    if not wanted:
        yield found
        return
    encode, own = encoder.encode_image, vars(encoder).get("encode_image")  # somebody else may be watching too

    def watched(pixels: Tensor) -> Tensor:
        z = encode(pixels)
        if pixels is x:
            found[:] = [z.detach()]
        return z

    encoder.encode_image = watched  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield found
    finally:
        del encoder.encode_image  # pyright: ignore[reportAttributeAccessIssue]
        if own is not None:
            encoder.encode_image = own  # pyright: ignore[reportAttributeAccessIssue]
