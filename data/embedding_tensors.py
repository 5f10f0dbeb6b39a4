"""One shard of embeddings as named tensors, and what must hold of their values."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.batches import EmbeddingBatch

FIELDS = ("image", "text", "tokens")
_TOLERANCE = 1e-3  # of the norm: half precision stays inside


def pack(batch: EmbeddingBatch) -> dict[str, Tensor]:
    """The batch as named tensors; keys are bytes, ``key_text``, and their ``key_ends``."""
    names = [key.encode() for key in batch.key]
    text = np.frombuffer(b"".join(names), dtype=np.uint8).copy()
    tensors = {"image": batch.image, "text": batch.text, "key_text": torch.from_numpy(text)}
    tensors["key_ends"] = torch.tensor(list(accumulate(map(len, names))), dtype=torch.int64)
    if batch.tokens is not None:
        tensors["tokens"] = batch.tokens
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def key_of(tensors: dict[str, Tensor], row: int) -> str:
    """The key of a row."""
    start = int(tensors["key_ends"][row - 1]) if row else 0
    return bytes(tensors["key_text"][start : int(tensors["key_ends"][row])].numpy()).decode()


def save(tensors: dict[str, Tensor], path: Path) -> None:
    """Write the tensors as one safetensors file."""
    from safetensors.torch import save_file

    save_file(tensors, path)


def load(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, mapped into memory.

    Raises:
        ValueError: not a safetensors file, or a field is missing.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"shard '{path}' is not a readable safetensors file ({error})") from error
    missing = {"image", "text", "key_text", "key_ends"} - set(tensors)
    if missing:
        raise ValueError(f"shard '{path}' lacks {', '.join(sorted(missing))}; make it again")
    return tensors


def check_values(tensors: dict[str, Tensor], where: str) -> None:
    """Look through all rows.

    Raises:
        ValueError: how many rows of which field are not finite or not of unit length.
    """
    image, text = tensors["image"], tensors["text"]
    if image.shape != text.shape or image.ndim != 2:
        raise ValueError(f"{where}: image {tuple(image.shape)} and text {tuple(text.shape)} must be [B, D]")
    for name in (name for name in FIELDS if name in tensors):
        for rows in tensors[name].split(65_536):
            _check_rows(rows.float(), name, where)


def _check_rows(rows: Tensor, name: str, where: str) -> None:
    broken = int((~rows.flatten(1).isfinite().all(dim=1)).sum())
    if broken:
        raise ValueError(f"{where}: {broken} rows of '{name}' are not finite")
    if name != "tokens":
        off = int(((rows.norm(dim=1) - 1).abs() > _TOLERANCE).sum())
        if off:
            raise ValueError(f"{where}: {off} rows of '{name}' are not of unit length; normalise them")
