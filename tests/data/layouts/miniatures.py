"""Benchmark data sets in miniature, laid out exactly as their makers lay them out."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PRESENT = 2  # the pickle protocol of Python 2, which CIFAR was written with


def pixels(count: int, side: int, seed: int = 0) -> np.ndarray:
    """[count, side, side, 3] uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def picture(path: Path, seed: int, side: tuple[int, int] = (12, 10)) -> None:
    """A PNG under whatever name: decoders look at the content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(0, 256, (side[1], side[0], 3), dtype=np.uint8)
    Image.fromarray(array).save(path, "PNG")


def lines(path: Path, text: Sequence[str]) -> None:
    """A text file, one entry a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in text))


def class_folders(folder: Path, classes: Sequence[str], each: int = 2) -> None:
    """Class folders with a few pictures."""
    for label, name in enumerate(classes):
        for i in range(each):
            picture(folder / name / f"{name}_{i}.JPEG", 10 * label + i)


def cifar_rows(x: np.ndarray) -> np.ndarray:
    """[N, 3072]: red, green, blue, row by row."""
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


def cifar10_binary(root: Path, x: np.ndarray, y: Sequence[int], names: Sequence[str]) -> None:
    """cifar-10-batches-bin with its test batch."""
    folder = root / "cifar-10-batches-bin"
    lines(folder / "batches.meta.txt", [*names, ""])
    rows = np.concatenate([np.asarray(y, np.uint8)[:, None], cifar_rows(x)], axis=1)
    (folder / "test_batch.bin").write_bytes(rows.tobytes())


def cifar100_binary(root: Path, x: np.ndarray, y: Sequence[int], names: Sequence[str]) -> None:
    """cifar-100-binary: a coarse label before the fine one."""
    folder = root / "cifar-100-binary"
    lines(folder / "fine_label_names.txt", names)
    labels = np.stack([np.full(len(y), 7), np.asarray(y)], axis=1).astype(np.uint8)
    (folder / "test.bin").write_bytes(np.concatenate([labels, cifar_rows(x)], axis=1).tobytes())


def pickled(path: Path, value: Any) -> None:
    """A pickle as Python 2 wrote it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol=PRESENT))


def cifar10_python(root: Path, x: np.ndarray, y: Sequence[int], names: Sequence[str]) -> None:
    """cifar-10-batches-py with its test batch."""
    folder = root / "cifar-10-batches-py"
    content = {b"data": cifar_rows(x), b"labels": list(y), b"batch_label": b"testing batch 1 of 1"}
    pickled(folder / "test_batch", content)
    pickled(folder / "batches.meta", {b"label_names": [name.encode() for name in names], b"num_vis": 3072})


def stl10(root: Path, x: np.ndarray, y: Sequence[int], names: Sequence[str]) -> None:
    """stl10_binary: pictures column by column, labels from 1."""
    folder = root / "stl10_binary"
    lines(folder / "class_names.txt", names)
    (folder / "test_X.bin").write_bytes(x.transpose(0, 3, 2, 1).tobytes())
    (folder / "test_y.bin").write_bytes((np.asarray(y, np.uint8) + 1).tobytes())


def mnist(root: Path, x: np.ndarray, y: Sequence[int], *, packed: bool) -> None:
    """MNIST's idx files of grey [N, 28, 28] pictures, in MNIST/raw."""
    folder = root / "MNIST/raw"
    folder.mkdir(parents=True)
    files = {
        "t10k-images-idx3-ubyte": struct.pack(">4B3I", 0, 0, 8, 3, *x.shape) + x.tobytes(),
        "t10k-labels-idx1-ubyte": struct.pack(">4BI", 0, 0, 8, 1, len(y)) + bytes(y),
    }
    for name, content in files.items():
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)


def parquet(root: Path, x: np.ndarray, y: Sequence[int], names: Sequence[str] | None) -> None:
    """A hub data set's test split in two files, with the class names where the hub's library puts them."""
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    (root / "data").mkdir(parents=True)
    said = {"info": {"features": {"label": {"names": list(names or []), "_type": "ClassLabel"}}}}
    for part, rows in enumerate(np.array_split(np.arange(len(x)), 2)):
        cells = []
        for i in rows:
            file = io.BytesIO()
            Image.fromarray(x[i]).save(file, "PNG")
            cells.append({"bytes": file.getvalue(), "path": None})
        table = pa.table({"img": cells, "label": [int(y[i]) for i in rows]})
        if names:
            table = table.replace_schema_metadata({"huggingface": json.dumps(said)})
        pq.write_table(table, root / f"data/test-{part:05d}-of-00002.parquet")


def flowers102(root: Path, labels: Sequence[int], test: Sequence[int]) -> None:
    """flowers-102: labels from 1 of all pictures, and the numbers of those in the test split."""
    from scipy.io import savemat

    folder = root / "flowers-102"
    for number in range(1, len(labels) + 1):
        picture(folder / f"jpg/image_{number:05d}.jpg", number)
    savemat(folder / "imagelabels.mat", {"labels": np.asarray([labels])})
    savemat(folder / "setid.mat", {"tstid": np.asarray([test]), "trnid": np.asarray([[1]]), "valid": np.asarray([[1]])})


def cars(root: Path, names: Sequence[str], test: Sequence[tuple[str, int]]) -> None:
    """stanford_cars with its test split: (file, class from 1)."""
    from scipy.io import savemat

    folder = root / "stanford_cars"
    rows = np.zeros((1, len(test)), dtype=[("class", object), ("fname", object)])
    for i, (file, label) in enumerate(test):
        picture(folder / "cars_test" / file, i)
        rows[0, i] = (label, file)
    (folder / "devkit").mkdir()
    cells = np.empty((1, len(names)), object)
    cells[0, :] = list(names)
    savemat(folder / "devkit/cars_meta.mat", {"class_names": cells})
    savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": rows})
