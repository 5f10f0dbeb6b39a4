"""What a search found before and after an attack, as rows of small pictures with marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from configs.files import ConfigError
from eval.pages.picture import Picture, data_uri
from eval.tables import plain

GOOD = ("relevant", "nearer to people")  # marks of what should come first
WHEN = {"before": "nearest first", "after": "nearest first, once attacked"}


def ranks_of(folder: Path, entry: dict[str, Any], shown: int) -> list[list[tuple[str, list[Picture]]]]:
    """For each of the first queries, (when, pictures in the order they were found); empty where nothing was looked for.

    Args:
        folder: the run folder that holds the tensors.
        entry: one description of ``examples.json``.
        shown: queries.

    Raises:
        ConfigError: marks and pictures do not fit.
    """
    marks = entry.get("marks")
    if not marks:
        return []
    tensors = _tensors(folder, entry)
    queries = min(shown, *(len(tensor) for tensor in tensors.values()))
    return [
        [(WHEN[when], _row(tensors[when][i], marks[when][i])) for when in WHEN if when in tensors]
        for i in range(queries)
    ]


def _row(pictures: np.ndarray, marks: list[str]) -> list[Picture]:
    found = zip(pictures, marks, strict=True)
    return [Picture(data_uri(x), f"{place}.", plain(mark), mark in GOOD) for place, (x, mark) in enumerate(found, 1)]


def _tensors(folder: Path, entry: dict[str, Any]) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    path, marks = folder / Path(str(entry["file"])).name, entry["marks"]
    try:
        with safe_open(path, "numpy") as file:
            found = {
                when: file.get_tensor(f"{entry['prefix']}/{when}").astype(np.float32) for when in WHEN if when in marks
            }
        for when, tensor in found.items():
            sizes, told = {len(row) for row in marks[when]}, len(marks[when])
            if tensor.ndim != 5 or tensor.shape[2] != 3 or (told, sizes) != (len(tensor), {tensor.shape[1]}):
                raise ValueError(f"{when} must be [N,M,3,H,W], with N times M marks")
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path} has no rankings of {plain(entry['prefix'])}: {plain(error)}") from error
    return found
