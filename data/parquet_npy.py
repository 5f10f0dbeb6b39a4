"""Embeddings in the layout ``parquet_npy``: tables of numbers in .npy files, captions in parquet files beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.batches import EmbeddingSample
from data.embedding_source import EmbeddingSource, by_part
from data.embedding_values import phrases, row_faults
from data.faults import refuse_faults
from data.npy import map_npy
from data.parquet import read_texts
from data.parquet_npy_layout import Part, find_parts
from data.progress import track
from data.strings import PackedStrings


class ParquetNpy(EmbeddingSource):
    """Samples of a folder in the layout ``parquet_npy``.  Embeddings stay in their mapped files.

    Captions and names lie in memory, once for all workers (about 100 bytes a sample): parquet has no access by row.
    Sets whose captions do not fit become mapped shards with ``robustclip embed``.

    Args:
        folder: see ``data.parquet_npy_layout``.
        normalise: scale rows to unit length when they are read; without it, other lengths are a fault.
        values: look through all rows for values that are not finite, zero or not of unit length.
        in_memory: False reads a file's captions when one of its samples is asked for, and keeps only the last file's:
            for one pass in order.

    Attributes:
        parts: the files, in the order of their numbers.
        empty_captions: samples whose caption is missing or blank; they count as pairs with an empty text.
        has_captions: True.
        metadata: ``encoder`` is None: the layout does not say whose embeddings these are.

    Raises:
        ValueError: all faults of the folder, counted, the first few named.
    """

    def __init__(
        self, folder: Path | str, *, normalise: bool = False, values: bool = True, in_memory: bool = True
    ) -> None:
        self.folder, self.normalise, self.in_memory = Path(folder), normalise, in_memory
        self.parts, faults = find_parts(self.folder)
        if not self.parts:
            refuse_faults(faults, self.folder)
        self._maps: dict[Path, np.ndarray] = {}
        self._texts: dict[int, tuple[PackedStrings, PackedStrings | None]] = {}
        self._ends = list(accumulate(part.rows for part in self.parts))
        self.dim = self.parts[0].dim
        self.shapes = {"image": [self.dim]} | ({"text": [self.dim]} if self.parts[0].text else {})
        self.has_captions = True
        self.metadata: dict[str, Any] = {"encoder": None, "data": str(folder), "layout": "parquet_npy"}
        self.empty_captions = 0
        for number, part in enumerate(track(self.parts, "check the embeddings", len(self.parts))):
            self._check(number, part, values, faults)
        if self.empty_captions == len(self):
            faults.append(f"all {len(self)} captions are empty")
        refuse_faults(faults, self.folder)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitems__(self, indices: Sequence[int]) -> list[EmbeddingSample]:
        """The samples at ``indices``; the rows of one file are read together."""
        return by_part(indices, self._ends, self._samples)

    def __getstate__(self) -> dict[str, Any]:
        # Mapped files do not travel, workers map them again; texts in shared memory do, without a copy.
        return {**self.__dict__, "_maps": {}, "_texts": self._texts if self.in_memory else {}}

    def _samples(self, number: int, rows: np.ndarray) -> list[EmbeddingSample]:
        part = self.parts[number]
        captions, keys = self._texts_of(number)
        image = self._rows(part.image, rows)
        text = None if part.text is None else self._rows(part.text, rows)
        return [
            EmbeddingSample(
                image[i],
                None if text is None else text[i],
                None,
                f"{part.name}/{row}" if keys is None else keys[row],
                captions[row],
            )
            for i, row in enumerate(rows.tolist())
        ]

    def _rows(self, path: Path, rows: np.ndarray) -> Tensor:
        found = _tensor(self._map(path)[rows]).float()
        return F.normalize(found, dim=1) if self.normalise else found

    def _map(self, path: Path) -> np.ndarray:
        if path not in self._maps:
            self._maps[path] = map_npy(path)
        return self._maps[path]

    def _texts_of(self, number: int) -> tuple[PackedStrings, PackedStrings | None]:
        if number not in self._texts:
            part = self.parts[number]
            captions = read_texts(part.metadata, part.caption_column)
            keys = read_texts(part.metadata, part.key_column) if part.key_column else None
            if self.in_memory:
                captions, keys = captions.share(), keys and keys.share()
            else:
                self._texts.clear()
            self._texts[number] = captions, keys
        return self._texts[number]

    def _check(self, number: int, part: Part, values: bool, faults: list[str]) -> None:
        try:
            self.empty_captions += self._texts_of(number)[0].empty()
        except ValueError as error:
            faults.append(str(error))
        for path in (part.image, part.text) if values else ():
            if path is not None:
                found = row_faults(self._reader(path), self._map(path).shape, unit=not self.normalise, zero=True)
                name = path.relative_to(self.folder).as_posix()
                faults += phrases(found, name, "data.normalise=true scales them")

    def _reader(self, path: Path) -> Callable[[int, int], Tensor]:
        table = self._map(path)
        return lambda start, stop: _tensor(np.array(table[start:stop]))


def _tensor(table: np.ndarray) -> Tensor:
    """The same numbers, in this machine's byte order; torch widens halves much faster than NumPy."""
    return torch.from_numpy(table.astype(table.dtype.newbyteorder("="), copy=False))
