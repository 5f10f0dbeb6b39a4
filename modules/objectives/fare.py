"""FARE (arXiv:2402.12336): keep the embedding of every perturbed image where the original model put the clean one."""

from __future__ import annotations

from torch import Tensor

from modules.encoders.base import ImageEncoder
from modules.objectives.base import Batch
from modules.perturb.losses import Loss, squared_l2


class FARE:
    """max over delta of || f(x + delta) - f0(x) ||^2, minimised over f (arXiv:2402.12336, eq. 3).

    Embeddings are not normalised and the sum over D is not divided by D.  No labels, no text.
    """

    needs_labels = False
    needs_random_start = True
    needs_reference = True

    def inner(self, encoder: ImageEncoder, reference: ImageEncoder, batch: Batch) -> Loss:
        """Squared distance from the original embedding of the clean image."""
        target = reference.encode_image(batch.x)
        return lambda x: squared_l2(encoder.encode_image(x), target)

    def outer(self, encoder: ImageEncoder, reference: ImageEncoder, batch: Batch, x_adv: Tensor) -> Tensor:
        """[B] the same distance at the perturbed images."""
        return squared_l2(encoder.encode_image(x_adv), reference.encode_image(batch.x))
