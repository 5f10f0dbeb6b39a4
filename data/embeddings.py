"""Shards of paired embeddings for prior training: safetensors files and an ``index.json``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from data.batches import EmbeddingBatch, EmbeddingSample, collate_embeddings
from data.embedding_source import EmbeddingSource, by_part
from data.embedding_tensors import faults_of, load, pack, rows_at, rows_of, save, shapes_of, strings_of
from data.faults import refuse_faults
from data.loader import position_loader
from data.manifest import MANIFEST, check_file, describe, new_folder, read_manifest, write_manifest
from data.plan import PositionBatches
from data.progress import track
from data.regroup import regroup

FORMAT = "robustclip-embeddings/2"
FORMATS = (FORMAT, "robustclip-embeddings/1")  # 1: a text embedding in every shard, and no captions


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
        batches: unit embeddings, image [B, D] and a text embedding [B, D], captions, or both; tokens [B, L, Dt] at
            will.  All batches hold the same fields.
        metadata: kept in ``index.json``; ``encoder`` is the fingerprint of the encoder, None where it is unknown.
        per_shard: rows of a file.

    Raises:
        ValueError: no ``encoder``, no batches, or values that ``EmbeddingShards`` would refuse.
    """
    if not isinstance(metadata.get("encoder", 0), str | None):
        raise ValueError("metadata needs 'encoder', the fingerprint of what made the embeddings, or None if unknown")
    records: list[dict[str, Any]] = []
    shapes: dict[str, list[int]] | None = None
    captions, empty = False, 0
    with new_folder(folder) as temporary:
        for part in regroup(track(batches, f"write {folder.name}"), per_shard):
            path = temporary / f"{len(records):05d}.safetensors"
            tensors = pack(part)
            found = shapes_of(tensors)
            if shapes is not None and found != shapes:
                raise ValueError(f"embeddings change their sizes from {shapes} to {found}")
            shapes = found
            refuse_faults(faults_of(tensors, path.name), folder, "nothing was written")
            if texts := strings_of(tensors, "caption"):
                captions, empty = True, empty + texts.empty()
            save(tensors, path)
            records.append(describe(path, len(part)))
        if not records or shapes is None:
            raise ValueError(f"no embeddings to write to '{folder}'")
        fields = {"dim": shapes["image"][0], "shapes": shapes, "captions": captions, "empty_captions": empty}
        write_manifest(temporary, FORMAT, records, **fields, metadata=metadata)
    return [folder / record["name"] for record in records]


class EmbeddingShards(EmbeddingSource):
    """Samples of a folder of embedding shards; the files are mapped, not loaded.

    Args:
        folder: as ``write_embeddings`` left it.
        encoder: fingerprint that the embeddings must have; None takes any.
        values: look through all rows for values that are not finite or not of unit length.
        checksum: also compare each file with its sha256.

    Attributes:
        empty_captions: samples whose caption is empty.

    Raises:
        ValueError: something is missing, damaged, or not as it should be: all faults, counted, the first few named.
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
        index = next((found for form in FORMATS if (found := read_manifest(self.folder, form))), None)
        if index is None:
            raise ValueError(f"no embeddings in '{folder}': its {MANIFEST} is missing or of another kind")
        self.metadata: dict[str, Any] = _field(index, "metadata", dict, self.folder)
        self.shapes: dict[str, list[int]] = _field(index, "shapes", dict, self.folder)
        self.dim: int = _field(index, "dim", int, self.folder)
        self.has_captions = bool(index.get("captions", False))
        self.empty_captions = int(index.get("empty_captions", 0))
        made_by = self.metadata.get("encoder")
        if encoder is not None and made_by != encoder:
            raise ValueError(f"'{folder}' was made by encoder '{made_by}', not '{encoder}'; embed again")
        self._records: list[dict[str, Any]] = index["shards"]
        if not self._records:
            raise ValueError(f"'{self.folder / MANIFEST}' lists no shards; embed again")
        self._ends = list(accumulate(record["count"] for record in self._records))
        self._open: dict[int, dict[str, Tensor]] = {}
        faults: list[str] = []
        for number, record in enumerate(track(self._records, "check the embeddings", len(self._records))):
            try:
                faults += self._faults(number, record, values, checksum)
            except ValueError as error:
                faults.append(str(error))
        refuse_faults(faults, self.folder)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitems__(self, indices: Sequence[int]) -> list[EmbeddingSample]:
        """The samples at ``indices``; the rows of one shard are read together."""
        return by_part(indices, self._ends, self._samples)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # mapped memory does not travel: workers map again

    def _samples(self, shard: int, rows: np.ndarray) -> list[EmbeddingSample]:
        tensors = self._tensors(shard)
        at = torch.from_numpy(rows)
        keys, captions = strings_of(tensors, "key"), strings_of(tensors, "caption")
        image, text, tokens = (rows_at(tensors, name, at) for name in ("image", "text", "tokens"))
        assert image is not None and keys is not None
        return [
            EmbeddingSample(
                image[i],
                None if text is None else text[i],
                None if tokens is None else tokens[i],
                keys[row],
                None if captions is None else captions[row],
            )
            for i, row in enumerate(rows.tolist())
        ]

    def _tensors(self, shard: int) -> dict[str, Tensor]:
        if shard not in self._open:
            self._open[shard] = load(self.folder / self._records[shard]["name"])
        return self._open[shard]

    def _faults(self, number: int, record: dict[str, Any], values: bool, checksum: bool) -> list[str]:
        path = self.folder / record["name"]
        if path.parent != self.folder or not path.is_file():
            return [f"no shard '{path}' although {MANIFEST} lists it; fetch or make it again"]
        check_file(path, record, checksum=checksum)
        tensors = self._tensors(number)
        found, rows = shapes_of(tensors), rows_of(tensors)
        if found != self.shapes or found["image"] != [self.dim]:
            return [f"shard '{path}' holds {found} but {MANIFEST} says {self.shapes} and dimension {self.dim}"]
        if ("caption_ends" in rows) != self.has_captions:
            return [f"shard '{path}' has {'no ' if self.has_captions else ''}captions but {MANIFEST} says otherwise"]
        if set(rows.values()) != {record["count"]}:
            return [f"shard '{path}' holds {rows} rows but {MANIFEST} says {record['count']}"]
        return faults_of(tensors, str(path), values=values)


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
