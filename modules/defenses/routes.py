"""From a view to what an attacker does: whose losses it averages, what it avoids, and who decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from modules.defenses.base import Defense, View
from modules.encoders.base import ImageEncoder
from modules.perturb.losses import Loss

GATE_WEIGHT = 20.0  # of the penalty against a label loss


@dataclass(frozen=True)
class Route:
    """How an attacker goes about a defence.

    Attributes:
        looks: encoders whose losses are averaged.
        faithful: their values are the defence's own, so that nobody else need judge the points.
        averaged: every loss is averaged over draws of the noise.
        penalty: pixels -> [B], what the attacker avoids beside being right.
        refused: pixels -> [B], positive where the image gets no answer, so that fooling the encoder is of no use.
    """

    looks: tuple[ImageEncoder, ...]
    faithful: bool = False
    averaged: bool = False
    penalty: Loss | None = None
    refused: Loss | None = None


def routes(view: View, defense: Defense) -> list[Route]:
    """The routes of a view that the defense has: one, or for ``parts`` one for each part and one for all together.

    Raises:
        ValueError: it does not have this view.
    """
    if view is not View.parts:
        return [route(view, defense)]
    parts = defense.parts()
    return [Route((part,)) for part in parts] + ([Route(tuple(parts))] if len(parts) > 1 else [])


def route(view: View, defense: Defense) -> Route:
    """The route of a view that the defence has.

    Raises:
        ValueError: it does not have this view.
    """
    if view not in defense.views():
        raise ValueError(f"{type(defense).__name__} has no view {view}; it has {', '.join(defense.views())}")
    exact = defense.differentiable()
    through = partial(Route, averaged=defense.random)
    faithful = getattr(exact, "faithful", True)
    match view:
        case View.transfer:
            return Route((undefended(defense),))
        case View.adaptive:
            return Route((exact,), faithful)
        case View.eot:
            return Route((exact,), faithful, averaged=True)
        case View.bpda:
            return through((StraightThrough(defense),), faithful=True)
        case View.smooth:
            return through(_some(defense.smoothed()))
        case View.gate:
            return through((exact,), faithful=faithful, penalty=partial(_opening, defense), refused=_refusal(defense))
        case View.surrogate:
            return through(_some(defense.cheaper()))
        case View.trajectory:
            return through((*defense.iterates(), exact))
        case View.ensemble:
            return through((undefended(defense), exact))
        case View.parts:
            return Route(tuple(defense.parts()))
        case View.query | View.control:
            return Route((defense,), faithful=True, averaged=defense.random, refused=_refusal(defense))
        case View.released:
            return Route((defense,), faithful=True)


def _some(encoder: ImageEncoder | None) -> tuple[ImageEncoder, ...]:
    assert encoder is not None, "a view without its hook"
    return (encoder,)


def _opening(defense: Defense, x: Tensor) -> Tensor:
    """[B] penalty on images that open the defence's gate, or nearly."""
    opening = defense.gate(x)
    assert opening is not None
    return GATE_WEIGHT * (opening + defense.gate_rest).clamp_min(0.0)


def _refusal(defense: Defense) -> Loss | None:
    """The opening of a gate behind which no image gets an answer."""
    return cast(Loss, defense.gate) if defense.rejects else None


class StraightThrough(ImageEncoder):
    """A defence's values with the gradient of the bare encoder (BPDA with the identity, arXiv:1802.00420).

    A defence that averages several looks, and so overrides ``encode_image``, keeps its values too: what it adds to
    the bare encoder's embedding is taken for a constant.

    Args:
        defense: the defence.
    """

    def __init__(self, defense: ImageEncoder, /) -> None:
        super().__init__()
        self.defense = defense
        self.embedding_dim, self.image_size = defense.embedding_dim, defense.image_size

    def encode_image(self, x: Tensor) -> Tensor:
        """Embeddings [B, D], equal to the defence's."""
        if not isinstance(self.defense, Defense):
            return self.defense.encode_image(x)
        if type(self.defense).encode_image is not Defense.encode_image:
            return _value_of(self.defense.encode_image, x, StraightThrough(self.defense.encoder).encode_image(x))
        moved = _value_of(self.defense.purify_pixels, x, x)
        z = StraightThrough(self.defense.encoder).encode_image(moved)
        return _value_of(self.defense.purify_latent, z, z)

    def logits(self, x: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits [B, K], equal to the defence's."""
        if type(self.defense).logits is ImageEncoder.logits:
            return head(self.encode_image(x))
        return _value_of(partial(self.defense.logits, head=head), x, head(undefended(self.defense).encode_image(x)))


def _value_of(hook: Callable[[Tensor], Tensor], value: Tensor, slope: Tensor) -> Tensor:
    """A hook's value, to the last bit, with the gradient of ``slope``."""
    with torch.no_grad():
        purified = hook(value.detach())
    return cast(Tensor, _Instead.apply(slope, purified.to(slope.dtype)))


class _Instead(torch.autograd.Function):
    """Another value for the same gradient; a sum would round small values away beside a large slope."""

    @staticmethod
    def forward(ctx: Any, slope: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def undefended(encoder: ImageEncoder) -> ImageEncoder:
    """The encoder at the bottom of a stack of defences."""
    while isinstance(encoder, Defense):
        encoder = encoder.encoder
    return encoder
