"""Weights made to hurt by way of tensors: odd kinds, shapes without end, archives that unpack to more than they are."""

from __future__ import annotations

import io
import json
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint.state_dict_saver as saver
from torch import Tensor

from modules.checkpoint import read_state
from modules.encoders.formats.dcp import read_dcp
from tests.waiting import CEILING

ROOT = Path(__file__).parents[3]


def quantised() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(4, 4), 0.1, 0, torch.qint8)


ODD: dict[str, tuple[Callable[[], Any], str]] = {
    "sparse": (lambda: torch.eye(4).to_sparse(), "is sparse|not loaded"),
    "quantised": (quantised, "is quantised|not loaded"),
    "complex": (lambda: torch.ones(4, dtype=torch.complex64), "is of complex64"),
    "without numbers": (lambda: torch.ones(4, device="meta"), "on the device meta|not loaded"),
    "repeated without end": (lambda: torch.ones(1).expand(2**20, 2**20), "the file holds 4 bytes of it"),
    "deep inside": (lambda: {"a": {"b": torch.ones(1).expand(2**30)}}, "the file holds 4 bytes of it"),
}


@pytest.mark.parametrize("kind", ODD)
def test_tensors_that_are_no_plain_numbers_are_refused_before_anything_is_computed(kind: str, tmp_path: Path) -> None:
    make, told = ODD[kind]
    torch.save({"state_dict": {"a": torch.ones(2), "b\x1b[2J": make()}}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=told) as caught:
        read_state(tmp_path / "x.pt")
    assert str(caught.value).isprintable()


def _zipped(path: Path, entries: dict[str, bytes], how: int) -> Path:
    with zipfile.ZipFile(path, "w", how, compresslevel=1) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def _entries(content: Any) -> dict[str, bytes]:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _safetensors(path: Path, header: bytes, size: int | None = None) -> Path:
    path.write_bytes(struct.pack("<Q", len(header) if size is None else size) + header + bytes(64))
    return path


HEADERS = {
    "a header without end": (b"{}", 2**62),
    "a large header": (b"{}", 2**27),
    "nested headers": (b'{"a":' * 100_000, None),
    "a shape without end": (
        json.dumps({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 64]}}).encode(),
        None,
    ),
    "a place outside": (json.dumps({"a": {"dtype": "F32", "shape": [16], "data_offsets": [64, 128]}}).encode(), None),
    "a negative place": (json.dumps({"a": {"dtype": "F32", "shape": [16], "data_offsets": [-64, 0]}}).encode(), None),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_that_promises_too_much_is_one_line(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="damaged or not a safetensors file") as caught:
        read_state(_safetensors(tmp_path / "x.safetensors", *HEADERS[kind]))
    assert len(str(caught.value).splitlines()) == 1


READER = """
import resource, sys
from pathlib import Path
from modules.checkpoint import read_state
read_state(Path(sys.argv[1]) / "good.pt")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).glob("bad*.pt")):
    try:
        read_state(path)
        print("read")
    except ValueError as error:
        print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_archives_that_unpack_without_end_fill_no_memory(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "good.pt")
    _zipped(tmp_path / "bad-0.pt", _entries({"a": torch.zeros(2**25)}), zipfile.ZIP_DEFLATED)
    (tmp_path / "bad-1.pt").write_bytes(b"\x80\x02" + b"(" * 10**6 + b".")
    ended = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=CEILING
    )
    assert ended.returncode == 0, ended.stderr[-500:]
    *told, grown = ended.stdout.splitlines()
    assert len(told) == 2 and all("was not loaded" in line for line in told), told
    assert int(grown) < 100  # and 128 where the archive were unpacked


def _folder(folder: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saver.save({"visual.a": torch.ones(4, 400), "visual.b": torch.ones(3)}, checkpoint_id=folder)
    return pickle.loads((folder / ".metadata").read_bytes()).__dict__


def test_a_list_of_pieces_that_claims_negative_room_is_refused(tmp_path: Path) -> None:
    _folder(tmp_path / "in")
    assert read_dcp(tmp_path / "in")["visual.b"].tolist() == [1, 1, 1]
    listed = pickle.loads((tmp_path / "in" / ".metadata").read_bytes())
    tensors = listed.state_dict_metadata
    object.__setattr__(tensors["visual.a"], "size", torch.Size([2**40]))
    object.__setattr__(tensors["visual.b"], "size", [-(2**40)])
    (tmp_path / "in" / ".metadata").write_bytes(pickle.dumps(listed))
    with pytest.raises(ValueError, match="asks for tensors that the folder cannot hold"):
        read_dcp(tmp_path / "in")


def test_a_compressed_piece_is_refused(tmp_path: Path) -> None:
    _folder(tmp_path / "in")
    (piece,) = (tmp_path / "in").glob("*.distcp")
    small = io.BytesIO()
    with zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _entries(torch.ones(3)).items():
            archive.writestr(name, content)
    listed = pickle.loads((tmp_path / "in" / ".metadata").read_bytes())
    for place in listed.storage_data.values():
        object.__setattr__(place, "offset", 0)
        object.__setattr__(place, "length", len(small.getvalue()))
    piece.write_bytes(small.getvalue() + bytes(8000))
    (tmp_path / "in" / ".metadata").write_bytes(pickle.dumps(listed))
    with pytest.raises(ValueError, match="a piece is missing, damaged, or no tensor"):
        read_dcp(tmp_path / "in")
