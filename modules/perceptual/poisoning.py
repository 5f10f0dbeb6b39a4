"""Gallery images that are changed to be found by a query that they have nothing to do with."""

from __future__ import annotations

import torch
from torch import Tensor

from modules import noise
from modules.encoders.base import ImageEncoder
from modules.perceptual.metric import unit
from modules.perturb.joint import apart


class Poisoning:
    """Two classes of a query: its first places stay clean (0), or a poisoned image gets in (1).

    The pixels it looks at are the ``images`` poisoned images of each query, [B, images * 3, H, W], behind one another
    along the channels.  Class 1 exceeds class 0 by the number of images that are in, and by how far the best of them is
    from the last clean place: so of two points the one with more images in is the worse.

    Args:
        encoder: of the gallery.
        queries: [B, D] embeddings of the queries.
        best: [B, first] cosines of the best clean items, none of them poisoned, in falling order.
        images: poisoned images of a query.
        smooth: answer with the mean cosine of all poisoned images instead, for who needs a slope for each of them.
    """

    def __init__(
        self, encoder: ImageEncoder, queries: Tensor, best: Tensor, /, *, images: int, smooth: bool = False
    ) -> None:
        self.encoder, self.queries, self.best = encoder, unit(queries), best
        self.images, self.smooth = images, smooth

    def of(self, index: Tensor) -> Poisoning:
        """Itself for the queries at ``index`` [B'] int64."""
        return Poisoning(self.encoder, self.queries[index], self.best[index], images=self.images, smooth=self.smooth)

    def __call__(self, x: Tensor) -> Tensor:
        """[B, 2] of the poisoned images x [B, images * 3, H, W] in [0, 1]."""
        with noise.parts(range(self.images)):
            return self.encoder.logits(apart(x, self.images), self._head)

    def cosines(self, x: Tensor) -> Tensor:
        """[B, images] of the poisoned images x [B, images * 3, H, W] to their queries."""
        with noise.parts(range(self.images)):
            return self.encoder.logits(apart(x, self.images), self._cosines)

    def _cosines(self, z: Tensor) -> Tensor:
        return (unit(z).unflatten(0, (-1, self.images)) * self.queries[:, None]).sum(dim=-1)

    def _head(self, z: Tensor) -> Tensor:
        cosines, bar = self._cosines(z), self.best[:, -1]
        if self.smooth:
            return torch.stack([bar, cosines.mean(dim=1)], dim=1)
        return torch.stack([bar, cosines.amax(dim=1) + entered(cosines.detach(), self.best)], dim=1)


def entered(cosines: Tensor, best: Tensor) -> Tensor:
    """[B] how many poisoned images stand among the first places, once all of them are in the gallery.

    Of equal cosines the clean item comes first.

    Args:
        cosines: [B, images] of the poisoned images.
        best: [B, first] of the best clean items, in falling order.
    """
    ordered = cosines.sort(dim=1, descending=True).values
    clean_before = (best[:, None, :] >= ordered[:, :, None]).sum(dim=2)
    poisoned_before = torch.arange(ordered.shape[1], device=cosines.device)
    return (clean_before + poisoned_before < best.shape[1]).sum(dim=1)
