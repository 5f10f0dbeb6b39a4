"""Parquet files of a hub data set: a column of encoded images, a column of labels, names in the file's schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from data.layouts.listing import Listing
from data.progress import track
from data.transforms import DecodeError, decode_image

_IMAGES = ("image", "img", "webp", "jpg", "png")
_MOST_UNPACKED, _SMALL, _ROWS = 50, 2**26, 16  # encoded pictures unpack to about their size
_LABELS = ("fine_label", "label", "labels", "cls")


@dataclass(frozen=True, eq=False)
class ParquetPictures:
    """Encoded pictures in a column of a table that is mapped, not loaded."""

    column: Any

    def __call__(self, index: int) -> Image.Image:
        """The picture of a row.

        Raises:
            DecodeError: it holds no bytes, or they do not decode.
        """
        cell = self.column[index].as_py()
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise DecodeError("no picture", "the row names a file instead of holding it")
        return decode_image(content)


def parquet_images(root: Path, split: str) -> Listing | None:
    """The rows of ``<split>-*.parquet``, in the folder itself or in ``data``.

    Raises:
        ValueError: pyarrow is missing, or the files have no images, labels or class names.
    """
    names = ("test", "validation", "val", "valid") if split in ("test", "val") else (split,)
    folders = [folder for folder in (root, root / "data") if folder.is_dir()]
    found = (sorted(folder.glob(f"{name}-*.parquet")) for folder in folders for name in names)
    files = next((paths for paths in found if paths), None)
    if files is None:
        return None
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ValueError(f"'{files[0]}' needs pyarrow; pip install -e '.[parquet]'") from error
    try:
        table = pa.concat_tables([_table(path) for path in track(files, "read", len(files))])
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"'{files[0].parent}' holds a damaged parquet file: {error}") from error
    image, label = table.column_names
    if table[label].null_count or not pa.types.is_integer(table[label].type):
        raise ValueError(f"column '{label}' of '{files[0]}' holds {table[label].type}, not a class number in every row")
    labels = [int(value) for value in table[label].to_pylist()]
    keys = [f"{files[0].name.partition('-')[0]}-{i:06d}" for i in range(len(labels))]
    classes = _names(table.schema.metadata or {}, label)
    if not classes:
        raise ValueError(f"'{files[0]}' names no classes; put a classnames.txt into '{root}'")
    return Listing(keys, labels, classes, ParquetPictures(table[image]), "hub data set, parquet")


def _table(path: Path) -> Any:
    """The images and the labels of a file, read until it has unpacked to more than encoded pictures do."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    size, unpacked, batches = path.stat().st_size, 0, []
    most = _MOST_UNPACKED * size + _SMALL
    with pq.ParquetFile(path, memory_map=True) as file:
        schema = file.schema_arrow
        columns = [_column(schema.names, names, path) for names in (_IMAGES, _LABELS)]
        told = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
        for batch in file.iter_batches(_ROWS, columns=columns) if told <= most else ():
            batches.append(batch)
            unpacked += batch.nbytes
            if unpacked > most:
                break
    if max(told, unpacked) > most:
        raise ValueError(f"'{path}' was refused: its {size} bytes unpack to more than pictures do")
    kept = pa.schema([schema.field(name) for name in columns], schema.metadata)
    return pa.Table.from_batches(batches).select(columns).cast(kept) if batches else kept.empty_table()


def _column(names: Sequence[str], wanted: Sequence[str], file: Path) -> str:
    found = next((name for name in wanted if name in names), None)
    if found is None:
        raise ValueError(f"'{file}' has no column {' or '.join(wanted)}; it has: {', '.join(names)}")
    return found


def _names(metadata: dict[bytes, bytes], label: str) -> list[str]:
    """The class names that the hub's library keeps in the schema."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []
