"""A defended encoder is an encoder; the gradient an attacker follows through it is a choice, and has a name."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import torch
from torch import Tensor

from modules.encoders.base import ImageEncoder


class View(StrEnum):
    """Whose gradient does the attacker follow?

    Attributes:
        transfer: the bare encoder's; the defence is met only when the finished image is scored.
        adaptive: the defence's own, exactly or by its smooth stand-in where a sign or a gate has no derivative.
        bpda: the defence's values forwards, the identity backwards (arXiv:1802.00420).
        eot: as ``adaptive``, with loss and gradient averaged over fresh draws of the defence's noise.
        released: what the authors' released code hands out, where that differs from the exact gradient.
    """

    transfer = "transfer"
    adaptive = "adaptive"
    bpda = "bpda"
    eot = "eot"
    released = "released"


class Defense(ImageEncoder):
    """An encoder that purifies pixels, or the latent, or both, around another encoder.

    A new defence overrides ``purify_pixels`` or ``purify_latent`` and gets every view from here.

    Attributes:
        random: it draws noise (``modules.noise``); evaluated by ``eot`` too.
        group: number of neighbouring images whose results depend on one another; 1 for an honest defence.
        artefact: a label for behaviour kept only to reproduce a release; its rows are never read as robustness.

    Args:
        encoder: the encoder to defend, itself perhaps defended.
    """

    random: bool = False
    group: int = 1
    artefact: str = ""

    def __init__(self, encoder: ImageEncoder, /) -> None:
        super().__init__()
        self.encoder = encoder
        self.embedding_dim, self.image_size = encoder.embedding_dim, encoder.image_size

    def purify_pixels(self, x: Tensor) -> Tensor:
        """Images [B, 3, H, W] to look at instead of x."""
        return x

    def purify_latent(self, z: Tensor) -> Tensor:
        """Embeddings [B, D] to use instead of z."""
        return z

    def encode_image(self, x: Tensor) -> Tensor:
        """Embeddings [B, D] of the purified images, purified."""
        return self.purify_latent(self.encoder.encode_image(self.purify_pixels(x)))

    def differentiable(self) -> ImageEncoder:
        """The encoder an adaptive attacker differentiates; itself, unless its own gradient is cut or zero."""
        return self

    def views(self) -> tuple[View, ...]:
        """The views that say something about this defence."""
        views = [View.transfer, View.adaptive, View.bpda]
        if self.random:
            views.append(View.eot)
        if self.artefact:
            views.append(View.released)
        return tuple(views)


class Undefended(Defense):
    """The encoder as it is, under the name ``none``."""

    def views(self) -> tuple[View, ...]:
        """There is nothing to see through: the encoder's own gradient."""
        return (View.adaptive,)


class StraightThrough(ImageEncoder):
    """A defence's values with the gradient of the bare encoder (BPDA with the identity, arXiv:1802.00420).

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
        moved = _value_of(self.defense.purify_pixels, x)
        z = StraightThrough(self.defense.encoder).encode_image(moved)
        return _value_of(self.defense.purify_latent, z)


def _value_of(hook: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    """A hook's value with the gradient of the identity."""
    with torch.no_grad():
        purified = hook(value.detach())
    return value + (purified - value).detach()


def undefended(encoder: ImageEncoder) -> ImageEncoder:
    """The encoder at the bottom of a stack of defences."""
    while isinstance(encoder, Defense):
        encoder = encoder.encoder
    return encoder


def follow(view: View, defense: Defense) -> ImageEncoder:
    """The encoder whose gradient an attacker with this view follows."""
    match view:
        case View.transfer:
            return undefended(defense)
        case View.adaptive | View.eot:
            return defense.differentiable()
        case View.bpda:
            return StraightThrough(defense)
        case View.released:
            return defense
