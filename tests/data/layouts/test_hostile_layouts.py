"""Benchmark data sets made to hurt: nothing runs, no other file is read, no memory is filled, and each is one line."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.layouts import arrays, hub, matlab
from data.layouts.plain_pickle import read_plain
from data.layouts.triplet_files import open_triplets
from tests.data.layouts.miniatures import cars, flowers102, parquet, pickled, pixels
from tests.waiting import CEILING

ROOT = Path(__file__).parents[3]


class Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.mark}'",)


def shared(levels: int, leaf: bytes, pair: bytes) -> bytes:
    """A pickle of a few bytes whose value has 2 ** levels leaves: each level is the one below it, twice."""
    steps = b"".join(b"h%c%s" % (n, pair.replace(b"?", b"h%c" % n)) + b"q%c" % (n + 1) for n in range(levels))
    return b"\x80\x02" + leaf + b"q\x00" + steps


PAIRS = shared(60, b"K\x01\x85", b"?\x86")  # t = (t, t), sixty times
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x01\x85cnumpy\ndtype\n"
CYCLE = b"\x80\x02]q\x00h\x00a."
PICKLES: dict[str, tuple[bytes, str]] = {
    "a list that holds itself": (CYCLE, "no pickle of plain values"),
    "a table by tuples of tuples": (PAIRS + b"}h\x3cK\x01s.", "a table by tuples"),
    "a bytes call of a table": (b"\x80\x02c_codecs\nencode\n}X\x05\x00\x00\x00ascii\x86R.", "a call of"),
    "a type of numbers of pickles": (PAIRS + ARRAY + b"h\x3c\x85R\x89U\x01atb.", "holds an array of 'objects'"),
    "a type of numbers by itself": (b"\x80\x02cnumpy\ndtype\nK\x01\x85R.", "holds a 'numpy dtype'"),
    "a name without end": (b"\x80\x02cos\n" + b"x" * 10**6 + b"\n)R.", "a call of 'os xxx"),
    "a name that clears a terminal": (b"\x80\x02cos\n\x1b[2J\n)R.", r"a call of 'os \\x1b\[2J'"),
    "an instance": (b"\x80\x02(ios\nsystem\n.", "the step INST"),
    "an object": (b"\x80\x02(cos\nsystem\no.", "the step OBJ"),
    "a new object": (b"\x80\x02cos\nsystem\n)\x81.", "the step NEWOBJ"),
    "a name from the stack": (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "the step STACK_GLOBAL"),
    "an extension": (b"\x80\x02\x82\x01.", "the step EXT1"),
    "an outer object": (b"\x80\x02K\x01Q.", "the step BINPERSID"),
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_made_to_hurt_is_one_line(name: str, tmp_path: Path) -> None:
    content, told = PICKLES[name]
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(ValueError, match=told) as caught:
        read_plain(tmp_path / "p")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_what_stands_in_a_pickle_many_times_is_gone_through_once(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(PAIRS + b".")
    value = read_plain(tmp_path / "p")  # by going through each leaf, it would take 2 ** 60 steps
    for _ in range(60):
        assert value[0] is value[1]
        value = value[0]
    assert value == (1,)


@pytest.mark.parametrize("field", [b"data", b"labels"])
def test_a_cifar_of_lists_within_lists_fills_no_memory(field: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    pickled(folder / "batches.meta", {b"label_names": [b"a", b"b"]})
    nested: Any = [0]
    for _ in range(30):
        nested = [nested, nested]
    good = {b"data": np.zeros((1, 3072), np.uint8), b"labels": [0]}
    pickled(folder / "test_batch", {**good, field: nested})
    with pytest.raises(ValueError, match="is not CIFAR's Python version"):
        arrays.cifar10_python(tmp_path, "test")
    pickled(folder / "test_batch", {**good, field: Canary(tmp_path / "mark")})
    with pytest.raises(ValueError, match="was refused"):
        arrays.cifar10_python(tmp_path, "test")
    assert not (tmp_path / "mark").exists()
    pickled(folder / "test_batch", good)
    assert arrays.cifar10_python(tmp_path, "test") is not None


def test_mnist_that_promises_more_than_it_has_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 1) + b"\0")
    for sides in ((2**32 - 1, 2**32 - 1, 2**32 - 1), (2**31, 28, 28)):
        (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, *sides)))
        with pytest.raises(ValueError, match="is cut short: it promises"):
            arrays.mnist(tmp_path, "test")


def test_a_mat_file_that_unpacks_to_more_than_a_list_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matlab, "_MOST_BYTES", 2**22)
    flowers102(tmp_path, [1, 2, 2], [2, 3])
    file = tmp_path / "flowers-102/imagelabels.mat"
    head, packer = file.read_bytes()[:128], zlib.compressobj(9)
    packed = packer.compress(struct.pack("<II", 14, 2**29) + bytes(2**22)) + packer.flush()
    file.write_bytes(head + struct.pack("<II", 15, len(packed)) + packed)
    assert file.stat().st_size < 2**13
    with pytest.raises(ValueError, match="was refused: it unpacks to more than 4194304 bytes"):
        matlab.flowers102(tmp_path, "test")


@pytest.mark.parametrize("packed", [True, False])
def test_mat_files_of_usual_kinds_are_read_and_damaged_ones_named(packed: bool, tmp_path: Path) -> None:
    from scipy.io import savemat

    flowers102(tmp_path, [1, 2, 2], [2, 3])
    file = tmp_path / "flowers-102/imagelabels.mat"
    savemat(file, {"other": np.zeros(50), "labels": np.asarray([[1, 2, 2]])}, do_compression=packed)
    found = matlab.flowers102(tmp_path, "test")
    assert found is not None and list(found.labels) == [1, 1]
    whole = file.read_bytes()
    for damaged in (whole[:150], whole[:128], b"", whole[:140] + bytes(30) + whole[170:]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="fetch it again") as caught:
            matlab.flowers102(tmp_path, "test")
        assert "\n" not in str(caught.value)


def test_numbers_of_classes_and_notes_that_are_none_are_one_line(tmp_path: Path) -> None:
    from scipy.io import savemat

    flowers102(tmp_path, [1, 0, 2], [2, 3])
    with pytest.raises(ValueError, match="holds no class numbers from 1 on"):
        matlab.flowers102(tmp_path, "test")
    flowers102(tmp_path / "far", [1, 2**30, 2], [2, 3])
    with pytest.raises(ValueError, match="holds no class numbers from 1 on"):
        matlab.flowers102(tmp_path / "far", "test")
    cars(tmp_path, ["a", "b"], [("0.jpg", 1)])
    savemat(tmp_path / "stanford_cars/cars_test_annos_withlabels.mat", {"annotations": np.zeros(3)})
    with pytest.raises(ValueError, match="holds no annotations with 'fname' and 'class'"):
        matlab.cars(tmp_path, "test")


def test_cars_outside_of_their_folder_are_refused(tmp_path: Path) -> None:
    cars(tmp_path, ["a", "b"], [("../../../secret.jpg", 1)])
    with pytest.raises(ValueError, match="the list names pictures outside"):
        matlab.cars(tmp_path, "test")


def hdf5() -> Any:
    return pytest.importorskip("h5py", reason="h5py reads PCAM's files alone")


def _pcam(root: Path, x: Callable[[Any], None] | None = None, y: Callable[[Any], None] | None = None) -> Path:
    h5py = hdf5()
    for name, write, content in (("x", x, pixels(3, 96)), ("y", y, np.array([0, 1, 1], np.uint8).reshape(3, 1, 1, 1))):
        with h5py.File(root / f"camelyonpatch_level_2_split_test_{name}.h5", "w") as file:
            if write is None:
                file[name] = content
            else:
                write(file)
    return root


def test_pcam_is_read_from_the_file_itself_alone(tmp_path: Path) -> None:
    h5py = hdf5()
    (tmp_path / "good").mkdir()
    found = arrays.pcam(_pcam(tmp_path / "good"), "test")
    assert found is not None and found.labels == [0, 1, 1]
    (tmp_path / "secret.bin").write_bytes(bytes(3 * 96 * 96 * 3))
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = pixels(3, 96)

    def outer(file: Any) -> None:
        shape = (3, 96, 96, 3)
        place = [(str(tmp_path / "secret.bin"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("x", shape, np.uint8, external=place)

    def virtual(file: Any) -> None:
        layout = h5py.VirtualLayout((3, 96, 96, 3), np.uint8)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (3, 96, 96, 3))
        file.create_virtual_dataset("x", layout)

    def linked(file: Any) -> None:
        file["x"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")

    def soft(file: Any) -> None:
        file["x"] = h5py.SoftLink("/nowhere")

    def folder(file: Any) -> None:
        file.create_group("x")

    def number(file: Any) -> None:
        file["x"] = 7

    for write in (outer, virtual, linked, soft, folder, number):
        with pytest.raises(ValueError, match="is no data set in the file itself"):
            arrays.pcam(_pcam(tmp_path, write), "test")


def test_a_pcam_that_claims_what_it_cannot_hold_is_refused(tmp_path: Path) -> None:
    hdf5()
    far, wide = (10**9, 96, 96, 3), (3, 2**15, 2**15, 3)
    for shape, chunks in ((far, (1, 96, 96, 3)), (wide, (1, 2**15, 2**13, 3))):
        with pytest.raises(ValueError, match="which it cannot hold"):
            arrays.pcam(
                _pcam(tmp_path, lambda file, s=shape, c=chunks: file.create_dataset("x", s, np.uint8, chunks=c)), "test"
            )
    with pytest.raises(ValueError, match="which it cannot hold"):
        arrays.pcam(_pcam(tmp_path, y=lambda file: file.create_dataset("y", (10**12,), np.uint8, chunks=(8,))), "test")
    for count, kind in ((4, np.uint8), (3, np.float32)):
        with pytest.raises(ValueError, match="not PCAM's"):
            arrays.pcam(_pcam(tmp_path, y=lambda file, c=count, k=kind: file.create_dataset("y", (c,), k)), "test")
    for name in ("x", "y"):
        _pcam(tmp_path)
        (tmp_path / f"camelyonpatch_level_2_split_test_{name}.h5").write_bytes(b"no HDF5")
        with pytest.raises(ValueError, match="that can be read; fetch it again"):
            arrays.pcam(tmp_path, "test")


def _hub(root: Path, rows: dict[str, Any], **settings: Any) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    said = {"huggingface": '{"info": {"features": {"label": {"names": ["a", "b"]}}}}'}
    pq.write_table(pa.table(rows).replace_schema_metadata(said), root / "test-0.parquet", **settings)
    return root


BAD_LABELS = [["0"], [None], [0.5], [[0]], [b"0"], [{"a": 0}]]


@pytest.mark.parametrize("labels", BAD_LABELS)
def test_labels_of_a_hub_that_are_no_class_numbers_are_one_line(labels: list[Any], tmp_path: Path) -> None:
    _hub(tmp_path, {"image": [b"x"], "label": labels})
    with pytest.raises(ValueError, match="not a class number in every row"):
        hub.parquet_images(tmp_path, "test")


def test_a_hub_file_is_never_read_from_where_a_row_points(tmp_path: Path) -> None:
    cell = {"bytes": None, "path": "/etc/passwd"}
    found = hub.parquet_images(_hub(tmp_path, {"image": [cell], "label": [0]}), "test")
    assert found is not None
    with pytest.raises(ValueError, match="the row names a file instead of holding it"):
        found.picture(0)


READER = """
import resource, sys
from pathlib import Path
from data.layouts.hub import parquet_images
import pyarrow.parquet
parquet_images(Path(sys.argv[1]) / "good", "test")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in ("same", "packed"):
    try:
        parquet_images(Path(sys.argv[1]) / name, "test")
        print("read")
    except ValueError as error:
        print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_hub_file_that_unpacks_without_end_fills_no_memory(tmp_path: Path) -> None:
    parquet(tmp_path / "good", pixels(4, 8), [0, 1, 1, 0], ["a", "b"])
    for name, rows in (("same", {"image": [bytes(2**20)] * 100}), ("packed", {"image": [bytes(2**22)] * 30})):
        (tmp_path / name).mkdir()
        settings = {"use_dictionary": name == "same", "compression": "zstd"}
        _hub(tmp_path / name, {**rows, "label": [0] * len(rows["image"])}, **settings)
        (file,) = (tmp_path / name).iterdir()
        assert file.stat().st_size < 2**20
    ended = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=CEILING
    )
    assert ended.returncode == 0, ended.stderr[-500:]
    same, packed, grown = ended.stdout.splitlines()
    assert "unpack to more than pictures do" in same, same
    assert "unpack to more than pictures do" in packed, packed
    assert int(grown) < 200


def _judged(root: Path, content: bytes) -> Path:
    for part in ("ref", "p0", "p1"):
        (root / "val/cnn" / part).mkdir(parents=True, exist_ok=True)
        (root / "val/cnn" / part / "0.png").touch()
    (root / "val/cnn/judge").mkdir(exist_ok=True)
    (root / "val/cnn/judge/0.npy").write_bytes(content)
    return root


def _npy(header: str, content: bytes = b"") -> bytes:
    said = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(said)) + said + content


NPY: dict[str, Callable[[Path], bytes]] = {
    "a pickle": lambda mark: pickle.dumps(Canary(mark)),
    "an array of pickles": lambda mark: _npy(
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", pickle.dumps(Canary(mark))
    ),
    "an archive": lambda mark: b"PK\x03\x04" + bytes(100),
    "a shape without end": lambda mark: _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (10**12,)}"),
    "a large shape": lambda mark: _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}"),
    "a text": lambda mark: _npy("{'descr': '<U1', 'fortran_order': False, 'shape': (1,)}", b"1\0\0\0"),
    "no number": lambda mark: _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", struct.pack("<d", 2.0)),
    "many bytes": lambda mark: _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", bytes(5000)),
    "nothing": lambda mark: b"",
}


@pytest.mark.parametrize("name", NPY)
def test_a_judgement_that_is_no_fraction_runs_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no array of one number|a judgement is one fraction") as caught:
        open_triplets(str(_judged(tmp_path, NPY[name](tmp_path / "mark"))), "val")
    assert not (tmp_path / "mark").exists() and "\n" not in str(caught.value)


@pytest.mark.parametrize("row", ["a.png,b.png,c.png", "a.png,b.png,c.png,left,more", "a.png"])
def test_rows_of_a_table_with_more_or_fewer_fields_are_named(row: str, tmp_path: Path) -> None:
    (tmp_path / "triplets.csv").write_text(f"reference,left,right,label\na,b,c,left\n{row}\n")
    with pytest.raises(ValueError, match="line 3 of .* has more or fewer fields"):
        open_triplets(str(tmp_path), "test")
