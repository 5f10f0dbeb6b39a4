"""TeCoA (arXiv:2212.07016): supervised adversarial training against the text embeddings of the classes."""

from __future__ import annotations

from torch import Tensor

from modules.encoders.base import ImageEncoder
from modules.objectives.base import Batch
from modules.perturb.losses import Loss, cross_entropy
from modules.zero_shot.head import ZeroShotHead


class TeCoA:
    """max over delta of the cross-entropy of zero-shot logits, minimised over f (arXiv:2212.07016).

    With FARE's recipe, as the FARE authors compare it: the head is one template per class, encoded by the frozen
    original text tower, and the cosines are multiplied by 100.

    Args:
        head: the frozen zero-shot head of the training classes.
    """

    needs_labels = True
    needs_random_start = False
    needs_reference = False

    def __init__(self, head: ZeroShotHead, /) -> None:
        self.head = head

    def inner(self, encoder: ImageEncoder, reference: ImageEncoder, batch: Batch) -> Loss:
        """Cross-entropy with the label; the original encoder is not asked."""
        return lambda x: self._loss(encoder, x, batch.y)

    def outer(self, encoder: ImageEncoder, reference: ImageEncoder, batch: Batch, x_adv: Tensor) -> Tensor:
        """[B] the same cross-entropy at the perturbed images."""
        return self._loss(encoder, x_adv, batch.y)

    def _loss(self, encoder: ImageEncoder, x: Tensor, y: Tensor) -> Tensor:
        self.head.to(x.device)
        return cross_entropy(self.head(encoder.encode_image(x)), y)
