"""One shard of embeddings as named tensors, and what must hold of them."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from data.batches import EmbeddingBatch
from data.embedding_values import phrases, row_faults
from data.strings import PackedStrings, pack_strings, packing_fault

FIELDS = ("image", "text", "tokens")
STRINGS = ("key", "caption")


def pack(batch: EmbeddingBatch) -> dict[str, Tensor]:
    """The batch as named tensors; keys are bytes, ``key_text``, and their ``key_ends``; captions alike."""
    tensors = {name: values for name in FIELDS if (values := getattr(batch, name)) is not None}
    for name in STRINGS:
        texts = getattr(batch, name)
        if texts is not None:
            packed = pack_strings([text if name == "key" else text.strip() for text in texts])
            tensors |= {f"{name}_text": packed.text, f"{name}_ends": packed.ends}
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def strings_of(tensors: dict[str, Tensor], name: str) -> PackedStrings | None:
    """The keys or captions of a shard, None where it has none."""
    ends = f"{name}_ends"
    return PackedStrings(tensors[f"{name}_text"], tensors[ends]) if ends in tensors else None


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
    wanted = {"image", "key_text", "key_ends"} | ({"caption_text"} if "caption_ends" in tensors else set())
    if missing := wanted - set(tensors):
        raise ValueError(f"shard '{path}' lacks {', '.join(sorted(missing))}; make it again")
    return tensors


def faults_of(tensors: dict[str, Tensor], where: str, *, values: bool = True) -> list[str]:
    """What is wrong with a shard: types, sizes, and with ``values`` every row."""
    faults = [
        f"'{name}' holds {str(tensors[name].dtype).removeprefix('torch.')} numbers; embeddings are floats"
        for name in FIELDS
        if name in tensors and not tensors[name].is_floating_point()
    ]
    if "text" not in tensors and "caption_ends" not in tensors:
        faults.append("neither text embeddings nor captions")
    image, text, tokens = (tensors.get(name) for name in FIELDS)
    if image is None or image.ndim != 2 or (text is not None and image.shape != text.shape):
        shapes = " and ".join(f"{name} {tuple(tensors[name].shape)}" for name in ("image", "text") if name in tensors)
        faults.append(f"{shapes} must be [B, D]")
    if tokens is not None and tokens.ndim != 3:
        faults.append(f"tokens {tuple(tokens.shape)} must be [B, L, D]")
    for name in STRINGS:
        strings = strings_of(tensors, name)
        if strings is not None and (fault := packing_fault(strings, name)):
            faults.append(fault)
    if values and not faults:
        for name in (name for name in FIELDS if name in tensors):
            faults += _value_faults(tensors[name], name)
    return [f"{where}: {fault}" for fault in faults]


def _value_faults(table: Tensor, name: str) -> list[str]:
    unit = name != "tokens"
    counts = row_faults(lambda start, stop: table[start:stop], tuple(table.shape), unit=unit, zero=unit)
    return phrases(counts, name)


def shapes_of(tensors: dict[str, Tensor]) -> dict[str, list[int]]:
    """The size of a row of each table."""
    return {name: list(tensors[name].shape[1:]) for name in FIELDS if name in tensors}


def rows_of(tensors: dict[str, Tensor]) -> dict[str, int]:
    """The number of rows of each table and list."""
    names = [*(name for name in FIELDS if name in tensors), *(f"{name}_ends" for name in STRINGS)]
    return {name: len(tensors[name]) for name in names if name in tensors}


def rows_at(tensors: dict[str, Tensor], name: str, rows: Tensor) -> Tensor | None:
    """[M, ...] float32 rows of a table, None where the shard has no such table."""
    return tensors[name][rows].float() if name in tensors else None
