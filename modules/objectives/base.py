"""What adversarial fine-tuning optimises: the perturbation ascends it, the weights descend it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from modules.encoders.base import ImageEncoder
from modules.perturb.losses import Loss


class Batch(Protocol):
    """Images with labels; ``data.batches.ImageBatch`` is one."""

    @property
    def x(self) -> Tensor:
        """Images [B, 3, H, W] in [0, 1]."""
        ...

    @property
    def y(self) -> Tensor:
        """Labels [B]; -1 where there is none."""
        ...

    @property
    def key(self) -> tuple[str, ...]:
        """Names of the samples."""
        ...


class Objective(Protocol):
    """A min-max objective.  ``reference`` is the frozen original encoder.

    Asked for ``batch.x`` itself, it computes once a step, or not at all where the batch brought its targets along.

    Attributes:
        needs_labels: the labels of the batch are looked at.
        needs_random_start: its inner gradient is zero at the clean image, so that the attack must start elsewhere.
        needs_reference: the original encoder is asked for the clean images of the batch.
    """

    needs_labels: bool
    needs_random_start: bool
    needs_reference: bool

    def inner(self, encoder: ImageEncoder, reference: ImageEncoder, batch: Batch) -> Loss:
        """The per-image loss that the perturbation ascends."""
        ...

    def outer(self, encoder: ImageEncoder, reference: ImageEncoder, batch: Batch, x_adv: Tensor) -> Tensor:
        """[B] the loss whose mean the weights descend, at the perturbed images [B, 3, H, W]."""
        ...
