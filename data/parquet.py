"""Text columns of parquet files, by way of pyarrow."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.strings import PackedStrings


def check_installed(where: Path) -> None:
    """Do nothing if pyarrow is there.

    Raises:
        ValueError: it is missing; names the extra that brings it.
    """
    if find_spec("pyarrow") is None:
        raise ValueError(f"reading '{where}' needs pyarrow; install it with: pip install -e '.[parquet]'")


def column_names(path: Path) -> tuple[list[str], int]:
    """The names of the columns of a file, and its number of rows; only its footer is read.

    Raises:
        ValueError: not a readable parquet file.
    """
    file = _open(path)
    try:
        return list(file.schema_arrow.names), int(file.metadata.num_rows)
    finally:
        file.close()


def read_texts(path: Path, column: str) -> PackedStrings:
    """A column as texts without surrounding white space; a missing value is an empty text.

    Raises:
        ValueError: the column is no text, or the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    file = _open(path)
    try:
        values = file.read(columns=[column]).column(0).cast(pa.large_string())
        texts: Any = pc.utf8_trim_whitespace(pc.fill_null(values, "")).combine_chunks()  # type: ignore[attr-defined]
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"column '{column}' of '{path}' cannot be read as text ({_line(error)})") from error
    finally:
        file.close()
    if isinstance(texts, pa.ChunkedArray):
        texts = pa.concat_arrays(texts.chunks) if texts.num_chunks else pa.array([], pa.large_string())
    return _packed(texts)


def _packed(texts: Any) -> PackedStrings:
    _, offsets, content = texts.buffers()
    if not len(texts):
        return PackedStrings(torch.zeros(0, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    bounds = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(content, dtype=np.uint8) if content is not None else np.zeros(0, np.uint8)
    return PackedStrings(
        torch.from_numpy(data[bounds[0] : bounds[-1]].copy()), torch.from_numpy(bounds[1:] - bounds[0])
    )


def _open(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"'{path}' is not a readable parquet file ({_line(error)})") from error


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
