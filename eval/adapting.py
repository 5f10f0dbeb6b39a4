"""Models that adapt at test time: put back before every image, or before every stream of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from eval.handed_in import copied
from modules.attacks.base import Classifier
from modules.choices import check_choice

Adapts = Literal["image", "stream"]

SAID: dict[str, str] = {
    "image": "adapts at test time, put back before every image",
    "stream": "adapts at test time over a stream of images, put back before every batch",
}


class Adapting(nn.Module):
    """A model that adapts to what it is shown, and begins every question as it was handed in.

    So its answers depend on the question alone, and it can be attacked, scored and compared like any model.  ``image``
    shows it one image at a time; ``stream`` shows it whole batches, whose images change one another's answers.  It is
    put back by its own ``reset()`` where it has one, else a copy of it answers.

    Args:
        model: pixels [B, C, H, W] in [0, 1] -> logits [B, K].
        adapts: after what it is put back.

    Raises:
        ValueError: ``adapts`` is neither.
        Exception: it has no ``reset()`` and cannot be copied.
    """

    def __init__(self, model: Classifier, /, *, adapts: Adapts) -> None:
        check_choice("adapts", adapts, Adapts)
        super().__init__()
        self.model = model
        self.adapts: Adapts = adapts
        if not hasattr(model, "reset"):
            copied(model)  # refused now, not hours later

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K] of x [B, C, H, W]."""
        if self.adapts == "stream":
            return self._anew()(x)
        return torch.cat([self._anew()(image[None]) for image in x])

    def __deepcopy__(self, memo: dict[int, Any]) -> Adapting:
        """A copy around a copy of the model, also where that is a function."""
        return Adapting(copied(self.model, memo), adapts=self.adapts).train(self.training)

    def _anew(self) -> Classifier:
        """The model as it was handed in."""
        reset: Callable[[], object] | None = getattr(self.model, "reset", None)
        if reset is None:
            return copied(self.model)
        reset()
        return self.model
