"""A defended encoder is an encoder; whose gradient an attacker follows through it is a choice (``modules.views``)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from modules.defenses.gates import GateCalibration
from modules.encoders.base import ImageEncoder
from modules.views import View as View


def with_autograd(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A method of pixels that may take gradients inside, also where the caller is in ``torch.inference_mode``.

    There gradients are silently zero, and a defense that purifies by them would do nothing.
    """

    @wraps(method)
    def run(self: Any, x: Tensor, *args: Any, **named: Any) -> Tensor:
        if not torch.is_inference_mode_enabled() or not self.takes_gradients:
            return method(self, x, *args, **named)
        with torch.inference_mode(False), torch.no_grad():
            return method(self, x.clone(), *args, **named)

    return run


class Defense(ImageEncoder):
    """An encoder that purifies pixels, or the latent, or both, around another encoder.

    A new defence overrides ``purify_pixels`` or ``purify_latent``, and those of the hooks for attackers
    (``differentiable`` and below) that it has an answer to; the views follow from them (``modules.defenses.routes``).

    Attributes:
        random: it draws noise (``modules.noise``); evaluated by ``eot`` too.
        group: number of neighbouring images whose results depend on one another; 1 for an honest defence.
        artefact: a label for behaviour kept only to reproduce a release; its rows are never read as robustness.
        calibrate: its gate is set on a tuning split before it is judged (``calibrate_gate``).
        rejects: an image that opens the gate gets no answer, and whoever attacks has to keep the gate shut.
        takes_gradients: it may take gradients inside, also where the caller is in ``torch.inference_mode``.
        gate_reads: what the gate's score is, in words.
        gate_rest: how far below opening an evader of the gate stays, in the gate's own units.

    Args:
        encoder: the encoder to defend, itself perhaps defended.
    """

    random: bool = False
    group: int = 1
    artefact: str = ""
    calibrate: bool = False
    rejects: bool = False
    takes_gradients: bool = True
    gate_reads: str = "score"
    gate_rest: float = 0.2

    def __init_subclass__(cls, **named: Any) -> None:
        """Let a subclass's own ``encode_image`` and ``logits`` take gradients in any mode."""
        super().__init_subclass__(**named)
        for name in ("encode_image", "logits"):
            if name in cls.__dict__:
                setattr(cls, name, with_autograd(cls.__dict__[name]))

    def __init__(self, encoder: ImageEncoder, /) -> None:
        super().__init__()
        self.encoder = encoder
        self.embedding_dim, self.image_size = encoder.embedding_dim, encoder.image_size
        if isinstance(encoder, Defense):  # what a stack is made of, it is
            self.random = self.random or encoder.random
            self.group = math.lcm(self.group, encoder.group)
            self.artefact = self.artefact or encoder.artefact

    def purify_pixels(self, x: Tensor) -> Tensor:
        """Images [B, 3, H, W] to look at instead of x."""
        return x

    def purify_latent(self, z: Tensor) -> Tensor:
        """Embeddings [B, D] to use instead of z."""
        return z

    @with_autograd
    def encode_image(self, x: Tensor) -> Tensor:
        """Embeddings [B, D] of the purified images, purified."""
        return self.purify_latent(self.encoder.encode_image(self.purify_pixels(x)))

    def differentiable(self) -> ImageEncoder:
        """The encoder an adaptive attacker differentiates; itself, unless its own gradient is cut or zero."""
        return self

    def smoothed(self) -> ImageEncoder | None:
        """A copy whose signs and gates are smooth; None where there is nothing to smooth."""
        return None

    def cheaper(self) -> ImageEncoder | None:
        """The same defence with less work; None where it cannot work less."""
        return None

    def iterates(self) -> list[ImageEncoder]:
        """The defence stopped after each of its steps but the last; empty where it takes no steps."""
        return []

    def parts(self) -> list[ImageEncoder]:
        """Parts of a model that was handed in as a function, each with embeddings of its own; mostly none."""
        return []

    def gate(self, x: Tensor) -> Tensor | None:
        """[B] how far x [B, 3, H, W] opens the gate: positive where the defence acts, 1 for the gate's own size.

        Differentiable.  None where the defence always acts.
        """
        return None

    def gate_score(self, x: Tensor) -> Tensor | None:
        """[B] what the gate compares with its threshold; None where nothing can be calibrated."""
        return None

    def calibrate_gate(self, clean: Tensor, attacked: Tensor) -> GateCalibration:
        """Set the gate by the scores [N] of a tuning split and of the same images attacked through the bare encoder.

        Raises:
            ValueError: this defence has no gate to be set, or the tuning split is too small.
        """
        raise ValueError(f"{type(self).__name__} has no gate that could be calibrated")

    def views(self) -> tuple[View, ...]:
        """The views that say something about this defence: those of its hooks, and those of every defence."""
        hooks = {
            View.eot: self.random,
            View.smooth: self.smoothed() is not None,
            View.gate: type(self).gate is not Defense.gate,
            View.surrogate: self.cheaper() is not None,
            View.trajectory: bool(self.iterates()),
            View.parts: bool(self.parts()),
            View.released: bool(self.artefact),
        }
        return tuple(view for view in View if hooks.get(view, True))


class Undefended(Defense):
    """The encoder as it is, under the name ``none``."""

    takes_gradients = False

    def parts(self) -> list[ImageEncoder]:
        """Those of the encoder, where it knows any (``eval.handed_in.LogitsEncoder``)."""
        return list(getattr(self.encoder, "parts", ()))

    def views(self) -> tuple[View, ...]:
        """There is nothing to see through: the encoder's own gradient, that of its parts, or none."""
        own = (View.control, View.adaptive, View.parts, View.query)
        return tuple(view for view in own if view is not View.parts or self.parts())
