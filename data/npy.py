"""Tables in ``.npy`` files, mapped into memory, never unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def map_npy(path: Path) -> np.ndarray:
    """The [N, D] float table of a file, read-only and mapped: rows are read when they are asked for.

    Raises:
        ValueError: not an .npy file, cut short, of Python objects, or not a table of floats.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            start = file.tell()
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"'{path}' is not a readable .npy file ({str(error).splitlines()[0]})") from error
    if dtype.hasobject:
        raise ValueError(f"'{path}' holds pickled Python objects, which are never loaded; save it as a float array")
    if dtype.kind != "f":
        raise ValueError(f"'{path}' holds {dtype} numbers; embeddings are floats")
    if len(shape) != 2 or shape[1] < 1:
        raise ValueError(f"'{path}' is {list(shape)}; a table of embeddings is [N, D]")
    wanted, size = start + dtype.itemsize * shape[0] * shape[1], path.stat().st_size
    if size < wanted:
        raise ValueError(f"'{path}' has {size} bytes but its header promises {wanted}; fetch it again")
    if not shape[0]:
        return np.zeros(shape, dtype)  # no bytes to map
    return np.lib.format.open_memmap(path, mode="r")
