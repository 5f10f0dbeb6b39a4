"""Index files: beside their tars, or in the cache where that folder cannot be written; checked at each use."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.cache_folder import cache_folder, locked, name_in_cache, write_bytes
from data.index_file import ShardIndex, index_tar, pack_index, probe, unpack_index
from data.tars import ShardError

ENDING = ".index"
How = Literal["read", "built", "rebuilt"]


@dataclass(frozen=True, eq=False)
class FoundIndex:
    """An index, and where it came from.

    Attributes:
        index: of the tar as it is now.
        how: read from its file; built, for want of one; rebuilt, because the file did not fit.
        file: it is kept in; None where nothing could be written.
    """

    index: ShardIndex
    how: How
    file: Path | None


def find_index(path: Path, *, checksum: bool = False) -> FoundIndex:
    """The index of a tar: its file where that fits the tar, or a new one, which is then kept.

    A file fits when the tar has its size and its time, or its size and the same headers at some places.

    Args:
        path: of the tar.
        checksum: go through all headers of the tar anyway, and compare.

    Raises:
        ValueError: no such tar.
    """
    if not path.is_file():
        raise ShardError(f"no shard '{path}'; check the path")
    if not checksum:
        found, _ = _stored(path)
        if found is not None:
            return found
    for home in places_of(path):
        with suppress(OSError):  # a folder that cannot be written, or a full disk
            return _make(path, home, checksum)
    return FoundIndex(index_tar(path), "built", None)


def _make(path: Path, home: Path, checksum: bool) -> FoundIndex:
    lock = home.with_name(f".{home.name}.lock")
    try:
        with locked(lock):  # of several processes, one builds and the others read
            found, doubtful = _stored(path)
            if found is not None and not checksum:
                return found
            index = index_tar(path)
            if found is not None and index.equals(found.index):
                return found
            if index.fault and not len(index):  # no tar, perhaps a file of another kind: nothing is left beside it
                return FoundIndex(index, "built", None)
            write_bytes(home, pack_index(index))
            return FoundIndex(index, "rebuilt" if doubtful or found else "built", home)
    finally:
        lock.unlink(missing_ok=True)


def places_of(path: Path) -> tuple[Path, Path]:
    """Where the index of a tar may lie: beside it, or in the cache."""
    beside = path.with_name(path.name + ENDING)
    return beside, cache_folder() / "indexes" / name_in_cache(str(path.resolve()), ENDING)


def read_index(file: Path) -> ShardIndex | None:
    """The index in a file; None where it is missing or damaged."""
    try:
        return unpack_index(file.read_bytes())
    except (OSError, ValueError):
        return None


def _stored(path: Path) -> tuple[FoundIndex | None, bool]:
    """The index that fits, and whether there is one that does not."""
    doubtful = False
    for file in places_of(path):
        if not file.is_file():
            continue
        index = read_index(file)
        if index is not None and _fits(index, path):
            if index.fault:  # in words that may name a place of before
                index = index_tar(path)
            return FoundIndex(index, "read", file), doubtful
        doubtful = True
    return None, doubtful


def _fits(index: ShardIndex, path: Path) -> bool:
    status = path.stat()
    if status.st_size != index.tar["bytes"]:
        return False
    if status.st_mtime_ns == index.tar.get("mtime_ns"):
        return True
    return probe(path, index.offset, index.size) == index.tar.get("probe")  # copied, with another time
