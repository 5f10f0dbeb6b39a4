from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.framing import Framing
from data.layouts import arrays
from data.layouts.listing import ListedImages, Listing
from data.layouts.plain_pickle import read_plain
from tests.data.layouts.miniatures import (
    cifar10_binary,
    cifar10_python,
    cifar100_binary,
    cifar_rows,
    mnist,
    pickled,
    pixels,
    stl10,
)

NAMES = ["airplane", "automobile", "bird"]
Write = Callable[[Path, np.ndarray, Sequence[int], Sequence[str]], None]
LAYOUTS: list[tuple[Write, Callable[[Path, str], Listing | None], int]] = [
    (cifar10_binary, arrays.cifar10_binary, 32),
    (cifar10_python, arrays.cifar10_python, 32),
    (cifar100_binary, arrays.cifar100_binary, 32),
    (stl10, arrays.stl10, 96),
]


@pytest.mark.parametrize(("write", "read", "side"), LAYOUTS)
def test_pictures_and_labels_come_out_as_they_went_in(write: Write, read: Callable, side: int, tmp_path: Path) -> None:
    x, y = pixels(5, side), [2, 0, 1, 1, 0]
    write(tmp_path, x, y, NAMES)
    found = read(tmp_path, "test")
    assert (list(found.labels), list(found.classes)) == (y, NAMES)
    assert list(found.keys) == [f"test-0000{i}" for i in range(5)]
    source = ListedImages(found, Framing(), name="x")
    for i in range(5):
        assert np.array_equal(np.asarray(found.picture(i)), x[i])
        assert np.allclose(source[i].x.numpy().transpose(1, 2, 0), x[i] / 255)


@pytest.mark.parametrize(("write", "read", "side"), LAYOUTS)
def test_another_layout_is_not_taken_for_it(write: Write, read: Callable, side: int, tmp_path: Path) -> None:
    assert read(tmp_path, "test") is None
    write(tmp_path, pixels(1, side), [0], NAMES)
    assert read(tmp_path, "nonsense") is None


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_is_read_packed_or_not(packed: bool, tmp_path: Path) -> None:
    x = pixels(3, 28)[..., 0]
    mnist(tmp_path, x, [7, 0, 9], packed=packed)
    found = arrays.mnist(tmp_path, "test")
    assert found is not None
    assert list(found.labels) == [7, 0, 9]
    assert np.array_equal(np.asarray(found.picture(2)), x[2])
    assert ListedImages(found, Framing(), name="m")[0].x.shape == (3, 28, 28)
    assert arrays.mnist(tmp_path, "train") is None


def test_files_cut_short_are_named(tmp_path: Path) -> None:
    cifar10_binary(tmp_path, pixels(2, 32), [0, 1], NAMES)
    file = tmp_path / "cifar-10-batches-bin/test_batch.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="test_batch.bin' has 6145 bytes, not a number of records of 3073"):
        arrays.cifar10_binary(tmp_path, "test")
    mnist(tmp_path, pixels(2, 28)[..., 0], [0, 1], packed=False)
    file = tmp_path / "MNIST/raw/t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is cut short: it promises 1568 bytes"):
        arrays.mnist(tmp_path, "test")
    stl10(tmp_path, pixels(2, 96), [0, 1, 1], NAMES)
    with pytest.raises(ValueError, match="2 pictures and 3 labels"):
        arrays.stl10(tmp_path, "test")


def test_pcam_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert arrays.pcam(tmp_path, "test") is None
    (tmp_path / "camelyonpatch_level_2_split_test_x.h5").touch()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ValueError, match=r"need h5py; pip install 'robustclip\[hdf5\]'"):
        arrays.pcam(tmp_path, "test")


class Villain:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    pickled(tmp_path / "batch", {b"data": Villain(canary)})
    with pytest.raises(ValueError, match="refused: it holds a call of"):
        read_plain(tmp_path / "batch")
    assert not canary.exists()


@pytest.mark.parametrize(
    "value",
    [
        {b"a": [1, -2, 3_000_000_000, 2**70, 1.5, None, True], b"b": (b"x" * 300, "text", ()), b"c": {1: [b""]}},
        [[i] * 3 for i in range(2000)],
    ],
)
def test_plain_values_come_out_as_they_went_in(value: object, tmp_path: Path) -> None:
    pickled(tmp_path / "p", value)
    assert read_plain(tmp_path / "p") == value


def test_texts_of_python_2_are_bytes(tmp_path: Path) -> None:
    said = b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(K\x00K\x01eU\x04nameq\x04U\x04testq\x05h\x02h\x04u."
    (tmp_path / "p").write_bytes(said)
    assert read_plain(tmp_path / "p") == {b"name": b"test", b"labels": b"name"}


def test_arrays_of_bytes_and_integers_are_put_together(tmp_path: Path) -> None:
    rows, counts = cifar_rows(pixels(3, 32)), np.arange(6, dtype=np.int64).reshape(2, 3)
    pickled(tmp_path / "p", {b"data": rows, b"counts": counts, b"turned": np.asfortranarray(rows)})
    found = read_plain(tmp_path / "p")
    assert np.array_equal(found[b"data"], rows)
    assert np.array_equal(found[b"counts"], counts)
    assert np.array_equal(found[b"turned"], rows)


def test_objects_of_python_and_damaged_pickles_are_refused(tmp_path: Path) -> None:
    pickled(tmp_path / "p", {b"data": np.asarray(["a", None], object)})
    with pytest.raises(ValueError, match="refused"):
        read_plain(tmp_path / "p")
    pickled(tmp_path / "p", {b"data": [1, 2]})
    content = (tmp_path / "p").read_bytes()
    for damaged in (content[:-1], content[5:], b"", b"\x80\x02."):
        (tmp_path / "p").write_bytes(damaged)
        with pytest.raises(ValueError, match="no pickle of plain values|refused"):
            read_plain(tmp_path / "p")
