"""Targets of a training by sample: one embedding for each picture, computed once and read for ever.

A folder holds ``targets.json``, which says whose embeddings they are and of what, and ``00000.npy``, ... with a fixed
number of rows each.  A row is the crc32 of its sample's name and values, and the values as float32, as they were.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.faults import OneLineError
from data.manifest import write_text
from data.open_files import OpenFiles

FORMAT = "robustclip-targets/1"
FILE = "targets.json"
_NAMES = 65_536  # names that the digest looks at; each row's own name is in its checksum


@dataclass(frozen=True)
class Header:
    """Whose embeddings a folder of targets holds, and of which pictures.

    Attributes:
        encoder: fingerprint of the encoder.
        pictures: what is done to a picture before the encoder sees it.
        count: N, samples of the data set.
        keys: digest of their names.
        dim: D.
        per_part: rows of a file, but for the last one.
    """

    encoder: str
    pictures: str
    count: int
    keys: str
    dim: int
    per_part: int

    @classmethod
    def of(cls, keys: Sequence[str], *, encoder: str, pictures: str, dim: int) -> Header:
        """The header of targets for the samples with these names, in this order."""
        per_part = min(max(-(-len(keys) // 64), 256), 65_536)  # processes share parts, and a restart redoes few rows
        return cls(encoder, pictures, len(keys), digest_of(keys), dim, per_part)

    @property
    def parts(self) -> int:
        """Number of files."""
        return -(-self.count // self.per_part)

    def rows(self, part: int) -> range:
        """The samples of a file."""
        return range(part * self.per_part, min((part + 1) * self.per_part, self.count))

    @cached_property
    def row_type(self) -> np.dtype[Any]:
        """A row: checksum and values."""
        return np.dtype([("crc", "<u4"), ("target", "<f4", (self.dim,))])

    @property
    def bytes(self) -> int:
        """Room that all rows take."""
        return self.count * self.row_type.itemsize


def digest_of(keys: Sequence[str]) -> str:
    """16 hexadecimal digits that name a list of samples: how many, and evenly spaced ones of them."""
    digest = blake2b(str(len(keys)).encode(), digest_size=8)
    for place in range(min(len(keys), _NAMES)):
        digest.update(b"\0" + keys[place * len(keys) // min(len(keys), _NAMES)].encode())
    return digest.hexdigest()


def checksum(key: str, values: bytes) -> int:
    """The crc32 of a sample's name and its target."""
    return zlib.crc32(values, zlib.crc32(key.encode()))


def part_name(part: int) -> str:
    """The name of a file."""
    return f"{part:05d}.npy"


@cache
def npy_head(row_type: np.dtype[Any], rows: int) -> bytes:
    """What stands before the rows of a file."""
    buffer = io.BytesIO()
    described = np.lib.format.dtype_to_descr(row_type)
    np.lib.format.write_array_header_1_0(buffer, {"descr": described, "fortran_order": False, "shape": (rows,)})
    return buffer.getvalue()


def write_header(folder: Path, header: Header) -> None:
    """Write ``targets.json``."""
    write_text(folder / FILE, json.dumps({"format": FORMAT, **asdict(header)}, indent=1) + "\n")


def read_header(folder: Path) -> Header:
    """The header of a folder.

    Raises:
        ValueError: it holds no targets, or the header is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise ValueError(f"'{folder}' holds other files and no targets; name a new folder as data.targets")
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        kind = said.pop("format")
        header = Header(**said)
        kinds = [type(value) for value in asdict(header).values()]
        if kind != FORMAT or kinds != [str, str, int, str, int, int] or min(header.dim, header.per_part) < 1:
            raise ValueError("another format")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"'{path}' is damaged ({error}); remove the folder, and the targets are made anew") from error
    return header


def check_header(folder: Path, found: Header, wanted: Header) -> None:
    """Refuse targets of another encoder or of other pictures.

    Raises:
        ValueError: naming what differs.
    """
    told = {
        "encoder": "of another encoder",
        "dim": "of another size",
        "pictures": "of pictures that are prepared otherwise",
        "count": "of another number of samples",
        "keys": "of other samples, or of these in another order",
    }
    for name, what in told.items():
        one, other = getattr(found, name), getattr(wanted, name)
        if one != other:
            raise ValueError(
                f"the targets in '{folder}' are {what} ({one}, not {other}); name another folder as data.targets"
            )


class Targets:
    """The target of every sample, read row by row; nothing is kept in memory.

    Args:
        folder: with all parts.
        header: as it must be.
        keys: names of the samples, in order.

    Raises:
        ValueError: they are of another encoder or of other pictures, or a part is missing or cut.
    """

    def __init__(self, folder: Path, header: Header, keys: Sequence[str]) -> None:
        found = read_header(folder)
        check_header(folder, found, header)
        self.folder, self.header, self.keys = folder, found, keys
        for part in range(found.parts):
            fault = part_fault(folder, found, part)
            if fault:
                raise ValueError(f"'{folder / part_name(part)}' {fault}; remove it, and its targets are made anew")
        self._files = OpenFiles(self._open)

    def __len__(self) -> int:
        return self.header.count

    def __getitem__(self, index: int) -> Tensor:
        """[D] float32, bit for bit as it was computed.

        Raises:
            ValueError: the row is damaged, or its picture could not be read when the targets were made.
        """
        header, key = self.header, self.keys[index]
        part, row = divmod(index, header.per_part)
        size = header.row_type.itemsize
        start = len(npy_head(header.row_type, len(header.rows(part))))
        content = self._files.read(part, start + row * size, size)
        values = content[4:]
        if len(content) != size or int.from_bytes(content[:4], "little") != checksum(key, values):
            raise OneLineError(
                f"the target of '{key}' in '{self.folder / part_name(part)}' is damaged; remove that file, and its "
                "targets are made anew"
            )
        target = np.frombuffer(values, "<f4")
        if not np.isfinite(target).all():
            raise OneLineError(
                f"'{key}' has no target: it could not be read when they were made; remove "
                f"'{self.folder / part_name(part)}', and its targets are made anew"
            )
        return torch.from_numpy(target.astype(np.float32))

    def _open(self, part: int) -> int:
        return os.open(self.folder / part_name(part), os.O_RDONLY | os.O_CLOEXEC)


def part_fault(folder: Path, header: Header, part: int) -> str:
    """What is wrong with a part's file without looking at its rows; empty if nothing is."""
    rows = len(header.rows(part))
    head = npy_head(header.row_type, rows)
    wanted = len(head) + rows * header.row_type.itemsize
    try:
        with (folder / part_name(part)).open("rb") as file:
            begin, size = file.read(len(head)), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return "is missing"
    if size != wanted:
        return f"has {size} bytes instead of {wanted}"
    return "" if begin == head else "is no part of these targets"
