"""Data sets whose lists are MATLAB files, read by scipy, which runs nothing of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data.layouts.listing import FilePictures, Listing, need, place

_FLOWER_SPLITS = {"train": "trnid", "val": "valid", "test": "tstid"}


def flowers102(root: Path, split: str) -> Listing | None:
    """Flowers-102: ``imagelabels.mat`` and ``setid.mat`` beside ``jpg``; it numbers its classes and names none."""
    folder = place(root, "flowers-102/jpg")
    if folder is None or split not in _FLOWER_SPLITS:
        return None
    labels = np.ravel(_field(folder.parent / "imagelabels.mat", "labels")).astype(int)
    chosen = np.sort(np.ravel(_field(folder.parent / "setid.mat", _FLOWER_SPLITS[split])).astype(int))
    if len(chosen) and not 1 <= chosen[0] <= chosen[-1] <= len(labels):
        raise ValueError(f"'{folder.parent / 'setid.mat'}' names picture {chosen[-1]} of {len(labels)}")
    keys = [f"image_{number:05d}.jpg" for number in chosen]
    classes = [f"class {number}" for number in range(1, int(labels.max()) + 1)]
    return _listing(folder, keys, [int(labels[number - 1]) - 1 for number in chosen], classes, "Flowers-102")


def cars(root: Path, split: str) -> Listing | None:
    """Stanford Cars: ``devkit/cars_meta.mat`` and ``cars_test_annos_withlabels.mat`` beside ``cars_test``."""
    folder = place(root, f"stanford_cars/cars_{split}")
    if folder is None or split not in ("train", "test"):
        return None
    devkit = folder.parent / "devkit"
    inside = {"train": devkit / "cars_train_annos.mat", "test": folder.parent / "cars_test_annos_withlabels.mat"}[split]
    notes = sorted(np.atleast_1d(_field(inside, "annotations")), key=lambda note: str(note.fname))
    classes = [str(name) for name in np.atleast_1d(_field(devkit / "cars_meta.mat", "class_names"))]
    labels = [int(getattr(note, "class")) - 1 for note in notes]
    return _listing(folder, [str(note.fname) for note in notes], labels, classes, "Stanford Cars")


def _listing(folder: Path, keys: list[str], labels: list[int], classes: list[str], layout: str) -> Listing:
    if any(Path(key).name != key for key in keys):
        raise ValueError(f"{layout}: the list names pictures outside '{folder}'")
    return Listing(keys, labels, classes, FilePictures([folder / key for key in keys]), layout)


def _field(path: Path, name: str) -> Any:
    from scipy.io import loadmat

    try:
        return loadmat(need(path), variable_names=[name], squeeze_me=True, struct_as_record=False)[name]
    except (KeyError, NotImplementedError, OSError) as error:
        raise ValueError(f"'{path}' holds no '{name}' that can be read; fetch it again") from error
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise ValueError(f"'{path}' is damaged: {str(error).partition(chr(10))[0][:120]}; fetch it again") from error
