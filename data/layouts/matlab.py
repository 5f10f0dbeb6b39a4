"""Data sets whose lists are MATLAB files, read by scipy, which runs nothing of them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from data.layouts.listing import FilePictures, Listing, need, place

_MOST_BYTES = 2**28  # of a file, and of what it unpacks to
_COMPRESSED, _PIECE = 15, 2**16
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
    if not len(labels) or not 1 <= labels.min() <= labels.max() <= len(labels):
        raise ValueError(f"'{folder.parent / 'imagelabels.mat'}' holds no class numbers from 1 on; fetch it again")
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
    classes = [str(name) for name in np.atleast_1d(_field(devkit / "cars_meta.mat", "class_names"))]
    try:
        notes = sorted(np.atleast_1d(_field(inside, "annotations")), key=lambda note: str(note.fname))
        labels = [int(getattr(note, "class")) - 1 for note in notes]
    except (AttributeError, TypeError) as error:
        raise ValueError(f"'{inside}' holds no annotations with 'fname' and 'class'; fetch it again") from error
    return _listing(folder, [str(note.fname) for note in notes], labels, classes, "Stanford Cars")


def _listing(folder: Path, keys: list[str], labels: list[int], classes: list[str], layout: str) -> Listing:
    if any(Path(key).name != key for key in keys):
        raise ValueError(f"{layout}: the list names pictures outside '{folder}'")
    return Listing(keys, labels, classes, FilePictures([folder / key for key in keys]), layout)


def _field(path: Path, name: str) -> Any:
    from scipy.io import loadmat

    _refuse_bomb(need(path))
    try:
        return loadmat(path, variable_names=[name], squeeze_me=True, struct_as_record=False)[name]
    except (KeyError, NotImplementedError, OSError) as error:
        raise ValueError(f"'{path}' holds no '{name}' that can be read; fetch it again") from error
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise ValueError(f"'{path}' is damaged: {str(error).partition(chr(10))[0][:120]}; fetch it again") from error


def _refuse_bomb(path: Path) -> None:
    """Refuse a file that unpacks to more than lists of a data set need; what is damaged is left to scipy to name."""
    left = _MOST_BYTES - path.stat().st_size
    with path.open("rb") as file:
        order = "<" if file.read(128)[126:] == b"IM" else ">"
        while left >= 0 and len(tag := file.read(8)) == 8:
            kind, size = struct.unpack(f"{order}II", tag)
            if kind != _COMPRESSED:
                file.seek(size, 1)
                continue
            unpacker, end = zlib.decompressobj(), file.tell() + size
            try:
                piece = file.read(min(size, _PIECE))
                while left >= 0 and piece:
                    left -= len(unpacker.decompress(piece, left + 1))
                    piece = file.read(min(_PIECE, end - file.tell()))
            except zlib.error:
                return
            file.seek(end)
    if left < 0:
        raise ValueError(f"'{path}' was refused: it unpacks to more than {_MOST_BYTES} bytes")
