"""Example pictures as data URIs: clean, perturbation, adversarial, counterattacked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from configs.files import ConfigError
from eval.pages.picture import Picture, data_uri
from eval.pages.ranks import ranks_of
from eval.tables import plain, threat_name

SHOWN = 4  # pictures per attack


def sheets_of(folder: Path, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each description of ``examples.json`` its title, its pictures, and whether the defence moved pixels.

    Raises:
        ConfigError: as ``pictures``.
    """
    return [
        {
            "name": _title(entry),
            "cards": pictures(folder, entry),
            "ranks": ranks_of(folder, entry, SHOWN),
            "moved": entry.get("prediction_purified") is not None,  # a defence that acts on pixels can be looked at
        }
        for entry in entries
    ]


def _title(entry: dict[str, Any]) -> str:
    system = entry["encoder"]
    if entry["defense"] != "none":
        system += f" + {entry['defense']}"
    through = f" through the {entry['view']} view" if entry.get("view") else ""
    eps = entry.get("eps")
    within = f", {threat_name(str(entry.get('norm', '')), eps)}" if eps else ""
    return plain(f"{system}: {entry['attack']}{through}{within}")


def pictures(folder: Path, entry: dict[str, Any]) -> list[tuple[str, list[Picture]]]:
    """``(label, [clean, perturbation, adversarial, purified])`` of the first few examples.

    Args:
        folder: the run folder that holds the tensors.
        entry: one description of ``examples.json``.

    Raises:
        ConfigError: the tensors are missing or do not fit the description.
    """
    tensors = _tensors(folder, entry)
    shown = []
    for i in range(min(SHOWN, len(tensors["clean"]))):
        clean, adversarial = tensors["clean"][i], tensors["adversarial"][i]
        reach = float(entry.get("eps") or 0)
        if entry.get("norm") != "linf":  # a pixel of an l2 ball rarely moves far
            reach = float(np.abs(adversarial - clean).max())
        moved = np.full_like(clean, 0.5) if reach <= 0 else 0.5 + (adversarial - clean) / (2 * reach)
        scale = f"perturbation ×{0.5 / reach:.0f}" if reach > 0 else "no perturbation"
        row = [
            _said(entry, "clean", clean, i),
            Picture(data_uri(moved), scale),
            _said(entry, "adversarial", adversarial, i),
        ]
        if "purified" in tensors:
            row.append(_said(entry, "purified", tensors["purified"][i], i))
        shown.append((_name(entry, "label", i), row))
    return shown


def _tensors(folder: Path, entry: dict[str, Any]) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    path = folder / str(entry["file"])
    if Path(str(entry["file"])).name != str(entry["file"]) or not path.is_file():
        raise ConfigError(f"no {plain(entry['file'])} in {folder}, named by its examples.json")
    found = {}
    try:
        with safe_open(path, "numpy") as file:
            for kind in ("clean", "adversarial", "purified"):
                name = f"{entry['prefix']}/{kind}"
                if name in file.keys() or kind != "purified":  # noqa: SIM118  (no mapping)
                    found[kind] = file.get_tensor(name).astype(np.float32)
    except (SafetensorError, OSError, ValueError) as error:
        raise ConfigError(f"{path} has no {plain(entry['prefix'])}: {plain(error)}") from error
    shape = found["clean"].shape
    if len(shape) != 4 or shape[1] != 3 or any(t.shape != shape for t in found.values()):
        raise ConfigError(f"{path}, {plain(entry['prefix'])}: images must be [N,3,H,W], all alike")
    return found


def _said(entry: dict[str, Any], kind: str, image: np.ndarray, i: int) -> Picture:
    counter = kind == "purified" and "ttc" in str(entry["defense"]).lower()
    shown = "counterattacked" if counter else kind
    said = _name(entry, f"prediction_{kind}", i)
    return Picture(data_uri(image), shown, said, said == _name(entry, "label", i))


def _name(entry: dict[str, Any], key: str, i: int) -> str:
    """The class name behind index ``i`` of a list of labels; empty where none was recorded."""
    labels: Sequence[int] = entry.get(key) or ()
    classes: Sequence[str] = entry.get("classes") or ()
    if i >= len(labels):
        return ""
    label = labels[i]
    return plain(classes[label]) if 0 <= label < len(classes) else f"class {label}"
