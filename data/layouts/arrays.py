"""Data sets of small pictures in one file each: CIFAR and STL-10 in binary, MNIST's idx, PCAM's HDF5."""

from __future__ import annotations

import gzip
import operator
from pathlib import Path
from typing import Any

import numpy as np

from data.layouts.listing import ArrayPictures, Listing, need, place, text_lines

_MAX_GZIP = 2 * 1024**3
_PCAM = (96, 96, 3)
_MOST_UNPACKED = 1100  # how far DEFLATE unpacks at the most, about
_PCAM_CHUNK = 2**28  # bytes that HDF5 unpacks at once


def cifar10_binary(root: Path, split: str) -> Listing | None:
    """CIFAR-10's binary version: 1 byte of label and 3,072 of pixels a picture."""
    folder = place(root, "cifar-10-batches-bin")
    if folder is None or split not in ("train", "test"):
        return None
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if split == "train" else ["test_batch.bin"]
    rows = np.concatenate([_records(need(folder / name), 3073) for name in names])
    classes = text_lines(need(folder / "batches.meta.txt"))
    return _cifar(rows[:, 0], rows[:, 1:], classes, split, "CIFAR-10, binary")


def cifar100_binary(root: Path, split: str) -> Listing | None:
    """CIFAR-100's binary version: coarse label, fine label (taken), 3,072 bytes of pixels."""
    folder = place(root, "cifar-100-binary")
    if folder is None or split not in ("train", "test"):
        return None
    rows = _records(need(folder / f"{split}.bin"), 3074)
    return _cifar(
        rows[:, 1], rows[:, 2:], text_lines(need(folder / "fine_label_names.txt")), split, "CIFAR-100, binary"
    )


def cifar10_python(root: Path, split: str) -> Listing | None:
    """CIFAR-10's Python version, whose pickles are read as plain values and never run."""
    return _pickled(root, split, "cifar-10-batches-py", "batches.meta", b"label_names", b"labels")


def cifar100_python(root: Path, split: str) -> Listing | None:
    """CIFAR-100's Python version; fine labels."""
    return _pickled(root, split, "cifar-100-python", "meta", b"fine_label_names", b"fine_labels")


def stl10(root: Path, split: str) -> Listing | None:
    """STL-10: ``<split>_X.bin`` (pictures column by column), ``<split>_y.bin`` (labels from 1), ``class_names.txt``."""
    folder = place(root, "stl10_binary")
    if folder is None or split not in ("train", "test"):
        return None
    rows = _records(need(folder / f"{split}_X.bin"), 3 * 96 * 96)
    pixels = rows.reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)
    labels = np.fromfile(need(folder / f"{split}_y.bin"), np.uint8).astype(int) - 1
    return _listing(pixels, labels, text_lines(need(folder / "class_names.txt")), split, "STL-10, binary")


def mnist(root: Path, split: str) -> Listing | None:
    """MNIST's idx files, perhaps with ``.gz``, in the folder itself or in ``MNIST/raw``."""
    folder = place(root, "MNIST/raw") or root
    stem = {"train": "train", "test": "t10k"}.get(split)
    files = [_plain_or_gz(folder / f"{stem}-{what}") for what in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    if stem is None or files[0] is None or files[1] is None:
        return None
    pixels, labels = _idx(files[0], 3), _idx(files[1], 1)
    return _listing(pixels, labels.astype(int), [str(digit) for digit in range(10)], split, "MNIST, idx")


def pcam(root: Path, split: str) -> Listing | None:
    """PCAM: ``camelyonpatch_level_2_split_<split>_{x,y}.h5``; needs h5py."""
    stem = f"camelyonpatch_level_2_split_{split}"
    folder = place(root, "pcam") or root
    if not (folder / f"{stem}_x.h5").is_file():
        if (folder / f"{stem}_x.h5.gz").is_file():
            raise ValueError(f"'{folder / stem}_x.h5.gz' is packed; run gunzip on it and on {stem}_y.h5.gz")
        return None
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("PCAM's .h5 files need h5py; pip install 'robustclip[hdf5]', or use wds/vtab/pcam") from error
    pixels = _inner(h5py, folder / f"{stem}_x.h5", "x")
    said = _inner(h5py, need(folder / f"{stem}_y.h5"), "y")
    if pixels.shape[1:] != _PCAM or pixels.dtype != np.uint8 or said.size != len(pixels) or said.dtype.kind not in "iu":
        raise ValueError(
            f"'{folder}' holds pictures {pixels.shape} and labels {said.shape}, not PCAM's; fetch it again"
        )
    return _listing(pixels, np.asarray(said).ravel().astype(int), ["no tumor", "tumor"], split, "PCAM, HDF5")


def _inner(h5py: Any, path: Path, name: str) -> Any:
    """A data set that lies in the file itself, in pieces of a usual size: HDF5 would follow it to any other file.

    A shape costs nothing to claim: one that the file's bytes could not unpack to is refused.
    """
    try:
        file = h5py.File(path, "r")
        found = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    except (OSError, KeyError) as error:
        raise ValueError(f"'{path}' holds no '{name}' that can be read; fetch it again") from error
    if found is None or not isinstance(found, h5py.Dataset) or found.external or found.is_virtual or not found.shape:
        raise ValueError(f"'{path}' was refused: its '{name}' is no data set in the file itself")
    piece = found.dtype.itemsize * int(np.prod(found.chunks or (1,), dtype=object))
    if found.nbytes > _MOST_UNPACKED * path.stat().st_size or piece > _PCAM_CHUNK:
        raise ValueError(f"'{path}' was refused: its '{name}' claims {found.shape}, which it cannot hold")
    return found


def _pickled(root: Path, split: str, place_of: str, meta: str, names: bytes, labels: bytes) -> Listing | None:
    from data.layouts.plain_pickle import read_plain

    folder = place(root, place_of)
    if folder is None or split not in ("train", "test"):
        return None
    batches = [f"data_batch_{i}" for i in range(1, 6)] if split == "train" else ["test_batch"]
    parts = [read_plain(need(folder / name)) for name in (batches if "-10-" in place_of else [split])]
    try:
        pixels = np.concatenate([_bytes_of(part[b"data"]) for part in parts])
        found = np.asarray([operator.index(label) for part in parts for label in part[labels]])
        classes = [name.decode("ascii") for name in read_plain(need(folder / meta))[names]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"'{folder}' is not CIFAR's Python version ({error!r}); fetch it again") from error
    return _cifar(found, pixels, classes, split, f"{place_of}, pickles read without running")


def _bytes_of(rows: object) -> np.ndarray:
    """[N, 3072] uint8; lists within lists, however few bytes say them, are no pixels."""
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape[1:] != (3072,):
        raise TypeError("data is no table of 3072 bytes a picture")
    return rows


def _cifar(labels: np.ndarray, rows: np.ndarray, classes: list[str], split: str, layout: str) -> Listing:
    pixels = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return _listing(pixels, labels.astype(int), classes, split, layout)


def _listing(pixels: np.ndarray, labels: np.ndarray, classes: list[str], split: str, layout: str) -> Listing:
    if len(pixels) != len(labels):
        raise ValueError(f"{layout}: {len(pixels)} pictures and {len(labels)} labels; fetch it again")
    keys = [f"{split}-{i:05d}" for i in range(len(labels))]
    return Listing(keys, labels.tolist(), classes, ArrayPictures(pixels), layout)


def _records(path: Path, length: int) -> np.ndarray:
    size = path.stat().st_size
    if not size or size % length:
        raise ValueError(f"'{path}' has {size} bytes, not a number of records of {length}; fetch it again")
    return np.memmap(path, np.uint8, "r").reshape(-1, length)


def _plain_or_gz(path: Path) -> Path | None:
    return next((found for found in (path, path.with_name(f"{path.name}.gz")) if found.is_file()), None)


def _idx(path: Path, dimensions: int) -> np.ndarray:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(_MAX_GZIP)
    except (OSError, EOFError) as error:
        raise ValueError(f"'{path}' is damaged; fetch it again") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, 8, dimensions]):
        raise ValueError(f"'{path}' is not an idx file of bytes with {dimensions} dimensions; fetch it again")
    shape = np.frombuffer(content, ">u4", dimensions, 4).astype(int)
    if len(content) - header != shape.prod():
        raise ValueError(f"'{path}' is cut short: it promises {shape.prod()} bytes; fetch it again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
