"""Shards of paired embeddings for prior training: safetensors files and an ``index.json``."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from data.batches import EmbeddingBatch, EmbeddingSample, collate_embeddings
from data.embedding_source import EmbeddingSource
from data.embedding_tensors import FIELDS, check_values, key_of, load, pack, save
from data.loader import position_loader
from data.manifest import (
    MANIFEST,
    check_file,
    describe,
    new_folder,
    read_manifest,
    write_manifest,
)
from data.plan import PositionBatches
from data.progress import track

FORMAT = "robustclip-embeddings/1"


def write_embeddings(
    folder: Path,
    batches: Iterable[EmbeddingBatch],
    metadata: dict[str, Any],
    *,
    per_shard: int = 100_000,
) -> list[Path]:
    """The safetensors files ``00000.safetensors``, ... written, whole or not at all.

    Args:
        folder: to make; it must be new or empty.
        batches: unit embeddings, image [B, D] and text [B, D], tokens [B, L, Dt] on all or none.
        metadata: kept in ``index.json``; ``encoder`` is the fingerprint of the encoder.
        per_shard: rows of a file.

    Raises:
        ValueError: no ``encoder``, no batches, or values that ``EmbeddingShards`` would refuse.
    """
    if not isinstance(metadata.get("encoder"), str):
        raise ValueError("metadata needs 'encoder', the fingerprint of what made the embeddings")
    records: list[dict[str, Any]] = []
    shapes: dict[str, list[int]] | None = None
    with new_folder(folder) as temporary:
        for part in _regroup(track(batches, f"write {folder.name}"), per_shard):
            path = temporary / f"{len(records):05d}.safetensors"
            tensors = pack(part)
            found = {name: list(t.shape[1:]) for name, t in tensors.items() if name in FIELDS}
            if shapes is not None and found != shapes:
                raise ValueError(f"embeddings change their sizes from {shapes} to {found}")
            shapes = found
            check_values(tensors, path.name)
            save(tensors, path)
            records.append(describe(path, len(part)))
        if not records or shapes is None:
            raise ValueError(f"no embeddings to write to '{folder}'")
        fields = {"dim": shapes["image"][0], "shapes": shapes, "metadata": metadata}
        write_manifest(temporary, FORMAT, records, **fields)
    return [folder / record["name"] for record in records]


class EmbeddingShards(EmbeddingSource):
    """Samples of a folder of embedding shards; the files are mapped, not loaded.

    Args:
        folder: as ``write_embeddings`` left it.
        encoder: fingerprint that the embeddings must have; None takes any.
        values: look through all rows for values that are not finite or not of unit length.
        checksum: also compare each file with its sha256.

    Attributes:
        dim: D.
        shapes: {"image": [D], "text": [D], "tokens": [L, Dt]}, without tokens where there are none.
        metadata: as it was written.

    Raises:
        ValueError: something is missing, damaged, or not as it should be.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        encoder: str | None = None,
        values: bool = True,
        checksum: bool = False,
    ) -> None:
        self.folder = Path(folder)
        index = read_manifest(self.folder, FORMAT)
        if index is None:
            raise ValueError(f"no embeddings in '{folder}': its {MANIFEST} is missing or of another kind")
        self.metadata: dict[str, Any] = _field(index, "metadata", dict, self.folder)
        self.shapes: dict[str, list[int]] = _field(index, "shapes", dict, self.folder)
        self.dim: int = _field(index, "dim", int, self.folder)
        made_by = self.metadata.get("encoder")
        if encoder is not None and made_by != encoder:
            raise ValueError(f"'{folder}' was made by encoder '{made_by}', not '{encoder}'; embed again")
        self.has_captions = False
        self._records: list[dict[str, Any]] = index["shards"]
        if not self._records:
            raise ValueError(f"'{self.folder / MANIFEST}' lists no shards; embed again")
        self._ends = list(accumulate(record["count"] for record in self._records))
        self._open: dict[int, dict[str, Tensor]] = {}
        for number, record in enumerate(track(self._records, "check the embeddings", len(self._records))):
            self._check(number, record, values, checksum)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitems__(self, indices: Sequence[int]) -> list[EmbeddingSample]:
        """The samples at ``indices``, in that order."""
        return [self._sample(index) for index in indices]

    def _sample(self, index: int) -> EmbeddingSample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        shard = bisect_right(self._ends, index)
        row = index - (self._ends[shard - 1] if shard else 0)
        tensors = self._tensors(shard)
        tokens = tensors["tokens"][row].float() if "tokens" in tensors else None
        image, text = tensors["image"][row].float(), tensors["text"][row].float()
        return EmbeddingSample(image, text, tokens, key_of(tensors, row))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # mapped memory does not travel: workers map again

    def _tensors(self, shard: int) -> dict[str, Tensor]:
        if shard not in self._open:
            self._open[shard] = load(self.folder / self._records[shard]["name"])
        return self._open[shard]

    def _check(self, number: int, record: dict[str, Any], values: bool, checksum: bool) -> None:
        path = self.folder / record["name"]
        if path.parent != self.folder or not path.is_file():
            raise ValueError(f"no shard '{path}' although {MANIFEST} lists it; fetch or make it again")
        check_file(path, record, checksum=checksum)
        tensors = self._tensors(number)
        found = {name: list(t.shape[1:]) for name, t in tensors.items() if name in FIELDS}
        if found != self.shapes:
            raise ValueError(f"shard '{path}' holds {found} but {MANIFEST} says {self.shapes}")
        rows = {name: len(tensors[name]) for name in (*found, "key_ends")}
        if set(rows.values()) != {record["count"]}:
            raise ValueError(f"shard '{path}' holds {rows} rows but {MANIFEST} says {record['count']}")
        if values:
            check_values(tensors, str(path))


def embedding_loader(
    source: EmbeddingSource,
    sampler: PositionBatches,
    workers: int,
    seed: int,
    *,
    pin_memory: bool = False,
) -> DataLoader[EmbeddingBatch]:
    """``EmbeddingBatch``es in the sampler's order; see ``position_loader``."""
    return position_loader(source, sampler, collate_embeddings, workers=workers, seed=seed, pin_memory=pin_memory)


def _field(index: dict[str, Any], name: str, kind: type, folder: Path) -> Any:
    if not isinstance(index.get(name), kind):
        raise ValueError(f"'{folder / MANIFEST}' lacks '{name}'; embed again")
    return index[name]


def _regroup(batches: Iterable[EmbeddingBatch], rows: int) -> Iterator[EmbeddingBatch]:
    """The same samples in batches of ``rows``; the last one may be smaller."""
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
