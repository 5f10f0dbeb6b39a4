"""The same embeddings in batches of another size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from data.batches import EmbeddingBatch


def regroup(batches: Iterable[EmbeddingBatch], rows: int) -> Iterator[EmbeddingBatch]:
    """The same samples in batches of ``rows``, on the CPU; the last one may be smaller.

    Raises:
        ValueError: batches of different sizes, or a field on only some of them.
    """
    if rows < 1:
        raise ValueError(f"{rows} rows per shard are too few; choose 1 or more")
    waiting: list[EmbeddingBatch] = []
    count = 0
    for batch in batches:
        waiting.append(batch.to("cpu"))
        count += len(batch)
        while count >= rows:
            joined = _join(waiting)
            yield joined.select(slice(0, rows))
            waiting, count = [joined.select(slice(rows, None))], count - rows
    if count:
        yield _join(waiting)


def _join(batches: Sequence[EmbeddingBatch]) -> EmbeddingBatch:
    kinds = {(b.image.shape[1:], _row(b.text), _row(b.tokens), b.caption is None) for b in batches}
    if len(kinds) > 1:
        raise ValueError("embeddings of different sizes, or a text, tokens or captions on only some of them")
    text = [b.text for b in batches if b.text is not None]
    tokens = [b.tokens for b in batches if b.tokens is not None]
    return EmbeddingBatch(
        torch.cat([b.image for b in batches]),
        torch.cat(text) if text else None,
        torch.cat(tokens) if tokens else None,
        tuple(key for b in batches for key in b.key),
        tuple(caption for b in batches for caption in b.caption or ()) or None,
    )


def _row(values: Tensor | None) -> torch.Size | None:
    return None if values is None else values.shape[1:]
