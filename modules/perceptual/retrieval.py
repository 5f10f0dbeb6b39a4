"""Looking for images by an image, as a classifier that attacks can search: is what comes first what should?"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from modules.encoders.base import ImageEncoder
from modules.perceptual.metric import unit


class Gallery:
    """The images that are searched: their embeddings, taken once.

    Args:
        embeddings: [N, D]; made length 1 here.
    """

    def __init__(self, embeddings: Tensor, /) -> None:
        self.embeddings = unit(embeddings)

    def __len__(self) -> int:
        return len(self.embeddings)

    def similarity(self, z: Tensor) -> Tensor:
        """[B, N] cosines of embeddings z [B, D] to the gallery's."""
        return unit(z) @ self.embeddings.T


class _Contest:
    """The best cosine among wanted items against the best among others; each query has items of its own.

    Args:
        encoder: of the queries.
        gallery: searched.
        wanted: [B, N] bool.
        others: [B, N] bool.
    """

    def __init__(self, encoder: ImageEncoder, gallery: Gallery, wanted: Tensor, others: Tensor, /) -> None:
        self.encoder, self.gallery, self.wanted, self.others = encoder, gallery, wanted, others

    def of(self, index: Tensor) -> Self:
        """Itself for the queries at ``index`` [B'] int64."""
        return type(self)(self.encoder, self.gallery, self.wanted[index], self.others[index])

    def __call__(self, x: Tensor) -> Tensor:
        """[B, 2] the best wanted and the best other cosine, of the queries x [B, 3, H, W] in [0, 1]."""
        return self.encoder.logits(x, self._head)

    def _head(self, z: Tensor) -> Tensor:
        similarity = self.gallery.similarity(z)
        return torch.stack([_best(similarity, self.wanted), _best(similarity, self.others)], dim=1)


class FirstIsRelevant(_Contest):
    """Two classes of a query: something relevant comes first (0), or something else does (1).

    The margin of class 1 over class 0 is what an untargeted attack ascends: best wrong minus best right cosine.

    Args:
        encoder: of the queries.
        gallery: searched.
        wanted: [B, N] bool, what is relevant.
        others: [B, N] bool, what is wrong; neither is ignored.
    """


class FirstIsAnotherThan(_Contest):
    """Two classes of a query: not the attacker's item comes first (0), or the item does (1).

    Args:
        encoder: of the queries.
        gallery: searched.
        wanted: [B, N] bool, all items but the attacker's.
        others: [B, N] bool, the attacker's item.
    """


class StaysOut:
    """Two classes of a gallery image that is poisoned: it stays out of a query's first k (0), or gets in (1).

    Args:
        encoder: of gallery and queries.
        queries: [B, D] embeddings of the queries that the images are to be found by.
        bars: [B] cosine of the k-th best other item: what an image has to exceed.
    """

    def __init__(self, encoder: ImageEncoder, queries: Tensor, bars: Tensor, /) -> None:
        self.encoder, self.queries, self.bars = encoder, unit(queries), bars

    def of(self, index: Tensor) -> StaysOut:
        """Itself for the images at ``index`` [B'] int64."""
        return StaysOut(self.encoder, self.queries[index], self.bars[index])

    def __call__(self, x: Tensor) -> Tensor:
        """[B, 2] the bar and the cosine to the query, of the images x [B, 3, H, W] in [0, 1]."""
        return self.encoder.logits(x, lambda z: torch.stack([self.bars, (unit(z) * self.queries).sum(-1)], dim=1))


def bars_of(gallery: Gallery, queries: Tensor, images: Tensor, k: int) -> Tensor:
    """[B] cosine of the k-th best item of each query, the image that is poisoned left out.

    Args:
        gallery: clean.
        queries: [B, D] embeddings.
        images: [B] positions of the poisoned images in the gallery.
        k: place that counts as found.

    Raises:
        ValueError: the gallery has not so many other items.
    """
    if not 1 <= k < len(gallery):
        raise ValueError(f"the first {k} of a gallery of {len(gallery)} items: k must leave at least one out")
    others = gallery.similarity(queries).scatter(1, images[:, None], -torch.inf)
    return others.topk(k, dim=1).values[:, -1]


def _best(similarity: Tensor, mask: Tensor) -> Tensor:
    return similarity.masked_fill(~mask, -1.0).amax(dim=1)  # no cosine is smaller
