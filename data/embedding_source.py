"""What a source of paired embeddings is, and a selection of its samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from data.batches import EmbeddingSample


class EmbeddingSource(Dataset[EmbeddingSample]):
    """Image embeddings by index, each with the text that belongs to it in one form or several.

    Attributes:
        dim: D.
        shapes: sizes of a row, {"image": [D], "text": [D], "tokens": [L, Dt]}; without ``text`` or ``tokens`` where
            the source holds none.
        has_captions: every sample carries its caption.
        metadata: where the embeddings come from; ``encoder`` is the fingerprint of the image encoder, None if unknown.
    """

    dim: int
    shapes: dict[str, list[int]]
    has_captions: bool
    metadata: dict[str, Any]

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> EmbeddingSample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[EmbeddingSample]:
        """The samples at ``indices``, in that order; what a DataLoader asks for.

        Raises:
            IndexError: an index outside 0 .. len - 1.
        """
        raise NotImplementedError


class SelectedEmbeddings(EmbeddingSource):
    """Some samples of another source.

    Args:
        source: to choose from.
        chosen: [M] indices into ``source``, in increasing order.
        rest: take the samples that are *not* chosen, in the source's order; only ``chosen`` is kept in memory.
    """

    def __init__(self, source: EmbeddingSource, chosen: np.ndarray, *, rest: bool = False) -> None:
        self.source, self.chosen, self.rest = source, chosen, rest
        self.dim, self.shapes = source.dim, source.shapes
        self.has_captions, self.metadata = source.has_captions, source.metadata
        self._kept_before = chosen - np.arange(len(chosen))  # samples of the rest that lie before each chosen one

    def __len__(self) -> int:
        return len(self.source) - len(self.chosen) if self.rest else len(self.chosen)

    def __getitems__(self, indices: Sequence[int]) -> list[EmbeddingSample]:
        """The samples at ``indices`` of the selection."""
        at = np.asarray(indices, dtype=np.int64)
        check_indices(at, len(self))
        rows = at + np.searchsorted(self._kept_before, at, side="right") if self.rest else self.chosen[at]
        return self.source.__getitems__(rows.tolist())


def check_indices(indices: np.ndarray, count: int) -> None:
    """Refuse an index outside 0 .. count - 1.

    Raises:
        IndexError: naming the first one.
    """
    outside = (indices < 0) | (indices >= count)
    if outside.any():
        raise IndexError(f"sample {indices[outside][0]} of {count}")


def by_part(
    indices: Sequence[int], ends: Sequence[int], read: Callable[[int, np.ndarray], list[EmbeddingSample]]
) -> list[EmbeddingSample]:
    """The samples at ``indices``, in that order, from a source whose samples lie in several files.

    Args:
        indices: of the whole source.
        ends: index after the last sample of each file.
        read: (file's number, rows in it) -> its samples.

    Raises:
        IndexError: an index outside the source.
    """
    at = np.asarray(indices, dtype=np.int64)
    check_indices(at, ends[-1])
    numbers = np.searchsorted(ends, at, side="right")
    samples: dict[int, EmbeddingSample] = {}
    for number in np.unique(numbers).tolist():
        places = np.flatnonzero(numbers == number)
        rows = at[places] - (ends[number - 1] if number else 0)
        samples |= zip(places.tolist(), read(number, rows), strict=True)
    return [samples[place] for place in range(len(at))]
