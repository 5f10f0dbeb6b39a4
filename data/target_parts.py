"""Writing targets: a part at a time, each whole or not there, by as many processes as there are."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from data.cache_folder import write_bytes
from data.folder_lock import locked_folder
from data.targets import (
    FILE,
    Header,
    check_header,
    checksum,
    npy_head,
    part_fault,
    part_name,
    read_header,
    write_header,
)

_TURN = 60.0  # seconds that a training waits for another one that begins the same folder


def prepare(folder: Path, header: Header) -> Header:
    """The header of a folder that is new or was begun before; only one process may ask.

    Raises:
        ValueError: the folder holds other things or other targets, or the disk has no room for them.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"'{folder}' is a file; data.targets names a folder")
    if (folder / FILE).is_file():
        return _prepare(folder, header)
    with locked_folder(folder, beside=True, patience=_TURN):
        return _prepare(folder, header)


def _prepare(folder: Path, header: Header) -> Header:
    if folder.is_dir() and any(folder.iterdir()):
        found = read_header(folder)
        check_header(folder, found, header)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        found = header
    rows = sum(len(found.rows(part)) for part in missing_parts(folder, found))
    needed, free = rows * found.row_type.itemsize, shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"targets take {needed / 2**30:.1f} GiB in '{folder}', where {free / 2**30:.1f} are free; "
            "name a folder elsewhere as data.targets"
        )
    if not (folder / FILE).is_file():
        write_header(folder, header)
    return found


def missing_parts(folder: Path, header: Header) -> list[int]:
    """The parts that have yet to be made."""
    return [part for part in range(header.parts) if part_fault(folder, header, part) == "is missing"]


class PartBatches(Sequence[list[int]]):
    """The samples of some parts in batches that lie within one part each; the last of a part may be smaller.

    Args:
        header: of the targets.
        parts: their numbers.
        batch_size: samples of a batch.
    """

    def __init__(self, header: Header, parts: Sequence[int], batch_size: int) -> None:
        self._rows = [header.rows(part) for part in parts]
        self._size = batch_size
        self._ends = np.cumsum([-(-len(rows) // batch_size) for rows in self._rows], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, index: int) -> list[int]: ...

    @overload
    def __getitem__(self, index: slice) -> list[list[int]]: ...

    def __getitem__(self, index: int | slice) -> list[int] | list[list[int]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        part = int(np.searchsorted(self._ends, index, side="right"))
        first = (index - (int(self._ends[part - 1]) if part else 0)) * self._size
        return list(self._rows[part][first : first + self._size])


def write_parts(
    folder: Path,
    header: Header,
    parts: Sequence[int],
    keys: Sequence[str],
    found: Iterable[tuple[Sequence[str], np.ndarray]],
) -> Iterator[int]:
    """Write parts as their values come; gives the number of rows that each batch brought.

    Args:
        folder: to write to.
        header: of the targets.
        parts: their numbers, in the order in which the values come.
        keys: names of all samples of the data set.
        found: batches of names [B] and float32 values [B, D], row by row.  A row with another sample's name stands for
            one that could not be read; it gets no target.

    Raises:
        ValueError: a value that is not finite.
    """
    batches = iter(found)
    for part in parts:
        rows = header.rows(part)
        table = np.empty(len(rows), header.row_type)
        done = 0
        while done < len(rows):
            names, values = next(batches)
            for row, (name, value) in enumerate(zip(names, values, strict=True), done):
                table[row] = _row(keys[rows[row]], name, value)
            done += len(names)
            yield len(names)
        write_bytes(folder / part_name(part), npy_head(header.row_type, len(rows)) + table.tobytes())


def _row(key: str, name: str, value: np.ndarray) -> tuple[int, np.ndarray]:
    if name != key:
        value = np.full_like(value, np.nan)
    elif not np.isfinite(value).all():
        raise ValueError(f"the original encoder's embedding of '{key}' is not finite; it cannot be a target")
    return checksum(key, value.astype("<f4").tobytes()), value
