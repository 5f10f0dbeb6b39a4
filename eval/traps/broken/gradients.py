"""Victims whose backward pass is not that of their forward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eval.traps.broken.parts import Around, Misled, of_fragile
from eval.traps.case import Case, broken
from modules.defenses.base import Defense
from modules.encoders.base import ImageEncoder
from modules.perturb.threat import Threat


class _Zero(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return torch.zeros_like(grads[0])


class _Negated(_Zero):
    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return -grads[0]


class _Random(_Zero):
    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(len(grads[0]))
        return grads[0].norm() * torch.randn(grads[0].shape, generator=generator)


class _Shrunken(_Zero):
    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return 1e-30 * grads[0]


class _OfNeighbors(_Zero):
    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].roll(1, 0)


def behind(function: type[_Zero], **more: Any) -> Case:
    """The case of a fragile network behind an identity with a backward pass of its own."""

    class Victim(Around):
        def forward(self, x: Tensor) -> Tensor:
            looked_at = function.apply(x)
            assert isinstance(looked_at, Tensor)
            return self.net(looked_at)

    return of_fragile(Victim, **more)


@broken("wrong backward")
def zero_gradient() -> Case:
    """Passes no gradient back."""
    return behind(_Zero)


@broken("wrong backward")
def negated_gradient_at_1() -> Case:
    """Passes the gradient back with the other sign, at linf 1/255."""
    return behind(_Negated, threat=Threat("linf", 1 / 255))


@broken("wrong backward")
def random_gradient_in_l1() -> Case:
    """Passes noise back as a gradient, in an l1 ball."""
    return behind(_Random, threat=Threat("l1", 0.8))


@broken("wrong backward")
def shrunken_gradient() -> Case:
    """Passes back 1e-30 of the gradient."""
    return behind(_Shrunken)


@broken("wrong backward")
def gradient_of_neighbors() -> Case:
    """Passes back to each image the gradient of the one before it in the batch."""
    return behind(_OfNeighbors)


@broken("wrong backward")
def detached() -> Case:
    """Cuts the graph, and leaves a tiny true gradient of an untrained network."""
    return of_fragile(Misled)


@broken("wrong backward")
def detached_purifier() -> Case:
    """A defense that purifies logits outside the graph."""

    class Purifier(Defense):
        def purify_latent(self, z: Tensor) -> Tensor:
            z = z.detach()
            return z + 0.1 * z.tanh()

    return of_fragile(lambda: Around().net, defense=Purifier)


@broken("stand-in")
def false_stand_in() -> Case:
    """A defense whose stand-in for adaptive attackers is another encoder."""

    class Blurred(ImageEncoder):
        def __init__(self, encoder: ImageEncoder) -> None:
            super().__init__()
            self.encoder, self.embedding_dim, self.image_size = encoder, encoder.embedding_dim, encoder.image_size

        def encode_image(self, x: Tensor) -> Tensor:
            return self.encoder.encode_image((x + x.roll(1, -1) + x.roll(1, -2)) / 3)

    class Liar(Defense):
        def differentiable(self) -> ImageEncoder:
            return Blurred(self.encoder)

    return of_fragile(lambda: Around().net, defense=Liar)
