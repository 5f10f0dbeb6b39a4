"""How good a ranking is: average precision and recall, with items that do not count."""

from __future__ import annotations

import torch
from torch import Tensor


def average_precision(similarity: Tensor, relevant: Tensor, ignored: Tensor | None = None) -> Tensor:
    """[Q] average precision of each query's ranking, by trapezoids as the revisited Oxford and Paris sets take it.

    Items of equal similarity keep the gallery's order.  NaN where a query has nothing relevant.

    Args:
        similarity: [Q, N] of queries to gallery items; larger comes first.
        relevant: [Q, N] bool.
        ignored: [Q, N] bool, items that are taken out of the ranking (junk); none where left out.
    """
    order = similarity.argsort(dim=1, descending=True, stable=True)
    hit = relevant.gather(1, order)
    counted = torch.ones_like(hit) if ignored is None else ~ignored.gather(1, order)
    hit = hit & counted
    place = counted.double().cumsum(dim=1) - 1  # of each item, from 0, without what is ignored
    found = hit.double().cumsum(dim=1)
    before = torch.where(place > 0, (found - 1) / place.clamp_min(1), 1.0)
    area = torch.where(hit, (before + found / (place + 1)) / 2, 0.0)
    return area.sum(dim=1) / hit.sum(dim=1)


def recall_at(similarity: Tensor, relevant: Tensor, k: int, ignored: Tensor | None = None) -> Tensor:
    """[Q] bool: something relevant is among a query's first k items; arguments as in ``average_precision``.

    Raises:
        ValueError: k is larger than the gallery, or below 1.
    """
    if not 1 <= k <= similarity.shape[1]:
        raise ValueError(
            f"recall at {k} needs a gallery of {k} items or more, and k of 1 or more; this one has "
            f"{similarity.shape[1]}"
        )
    if ignored is not None:
        similarity = similarity.masked_fill(ignored, -torch.inf)
        relevant = relevant & ~ignored
    order = similarity.argsort(dim=1, descending=True, stable=True)[:, :k]
    return relevant.gather(1, order).any(dim=1)


def rank_of(similarity: Tensor, item: Tensor) -> Tensor:
    """[Q] place, from 1, of item [Q] in each query's ranking of similarity [Q, N]; equals before it count."""
    own = similarity.gather(1, item[:, None])
    earlier = torch.arange(similarity.shape[1], device=item.device)[None] < item[:, None]
    return ((similarity > own) | ((similarity == own) & earlier)).sum(dim=1) + 1
