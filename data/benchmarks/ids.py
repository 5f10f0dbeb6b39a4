"""Lists of images that others have fixed, such as RobustBench's 5,000 of ImageNet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from data.text_files import read_lines


def read_ids(path: Path) -> list[str]:
    """The names of a list, one a line, in its order.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no text, or names nothing.
    """
    ids = [line for _, line in read_lines(path)]
    if not ids:
        raise ValueError(f"'{path}' names no image")
    return ids


def keys_of(ids: Sequence[str], keys: Sequence[str]) -> list[str]:
    """For each id the key of its image: the key itself, or the only one whose file name is the id's.

    Lists name files (``n01440764/ILSVRC2012_val_00000293.JPEG``); shards often keep only the name without its ending.
    An id that fits no key, or several, stays as it is.
    """
    known = set(keys)
    if all(one in known for one in ids):
        return list(ids)
    by_stem: dict[str, str | None] = {}
    for key in keys:
        stem = _stem(key)
        by_stem[stem] = None if stem in by_stem else key
    return [one if one in known else by_stem.get(_stem(one)) or one for one in ids]


def _stem(name: str) -> str:
    return PurePosixPath(name).name.partition(".")[0]
