"""A bounded folder of fetched shards, shared by all processes of a machine: each shard is fetched once."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from data.addresses import shown
from data.cache_folder import cache_folder, locked, name_in_cache
from data.download import FetchError, Reader, remote_file, with_retries
from data.home import at_home
from data.tars import ShardError

GIB = 2**30
DEFAULT_GIB = 100.0
_CHUNK = 2**20
_GROWTH = 64 * 2**20  # room made at a time for a file whose size is not told


class ShardCache:
    """Shards by address, fetched whole when they are asked for; those opened longest ago make room.

    A file has its final name only when it is whole.  Who has a file open can read on when it makes room.

    Args:
        folder: to keep them in; None takes the user's cache.
        limit: bytes that they may take together, downloads in progress included.
    """

    def __init__(self, folder: Path | str | None = None, *, limit: int = int(DEFAULT_GIB * GIB)) -> None:
        self.root = at_home(folder) if folder else cache_folder()
        self.folder, self.limit = self.root / "shards", limit

    def path_of(self, url: str) -> Path:
        """Where the shard lies while the cache has it."""
        return self.folder / name_in_cache(url)

    def open(self, url: str, record: dict[str, Any] | None = None) -> int:
        """A file descriptor of the shard, to be closed by the caller.

        Args:
            url: of the shard.
            record: ``bytes`` and ``sha256`` that it must have, where they are known.

        Raises:
            ValueError: it cannot be fetched, is not as the record says, or is too large for the cache.
        """
        path = self.path_of(url)
        for _ in range(10):
            with suppress(FileNotFoundError):
                handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                with suppress(OSError):
                    os.utime(path)  # used last
                return handle
            self.fetch(url, record)
        raise ShardError(f"the cache '{self.folder}' drops shards before they are read; raise data.cache")

    def fetch(self, url: str, record: dict[str, Any] | None = None) -> None:
        """Have the shard in the cache; one process fetches it, others that want it wait."""
        path = self.path_of(url)
        with locked(_lock_of(path)):
            if not path.exists():
                with_retries(url, lambda: self._download(url, path, record or {}))

    def drop(self, url: str) -> None:
        """Forget the shard, should the cache have it."""
        self.path_of(url).unlink(missing_ok=True)

    def _download(self, url: str, path: Path, record: dict[str, Any]) -> None:
        part = path.with_name(path.name + ".part")
        try:
            with remote_file(url) as (size, source):
                if size is not None and size != record.get("bytes", size):
                    raise ShardError(_changed(url, size, record["bytes"]))
                with self._reserve(url, part, size or _GROWTH) as file:
                    count, digest = self._copy(url, source, file, part, size)
            if size is not None and count != size:
                raise ConnectionError(f"{count} of {size} bytes came")
            if count != record.get("bytes", count):
                raise ShardError(_changed(url, count, record["bytes"]))
            if digest != record.get("sha256", digest):
                raise ConnectionError("its sha256 is not the one in index.json")
            with self._locked():
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _copy(self, url: str, source: Reader, file: BinaryIO, part: Path, size: int | None) -> tuple[int, str]:
        digest, count, room = hashlib.sha256(), 0, size or _GROWTH
        while chunk := source.read(_CHUNK):
            count += len(chunk)
            if count > room:
                if size is not None:
                    raise ConnectionError(f"more than the {size} bytes that were told came")
                room += _GROWTH
                self._reserve(url, part, room).close()
            file.write(chunk)
            digest.update(chunk)
        file.truncate(count)
        return count, digest.hexdigest()

    def _reserve(self, url: str, part: Path, size: int) -> BinaryIO:
        """The part's file, as long as it will be, so that other processes count it."""
        while True:
            with self._locked():
                free, others = self._make_room(size, part)
                if free >= 0:
                    file = part.open("r+b" if part.exists() else "wb")
                    file.truncate(size)
                    return file
            if not others:
                has, needs = self.limit / GIB, size / GIB
                raise FetchError(
                    f"shard '{shown(url)}' takes {needs:.3g} GiB and the cache may hold {has:.3g}; raise data.cache"
                )
            time.sleep(0.05)  # until other downloads are whole and can make room

    def _locked(self) -> AbstractContextManager[bool]:
        return locked(self.folder / "cache.lock")

    def _make_room(self, size: int, mine: Path) -> tuple[int, int]:
        """Bytes left once ``size`` is taken, negative if it does not fit yet; and the downloads in progress."""
        files = {}
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # a download that fails at this moment
                if path.suffix != ".lock" and path != mine:
                    files[path] = path.stat()
        parts = {path for path in files if path.suffix == ".part"}
        for path in list(parts):
            with locked(_lock_of(path.with_suffix("")), wait=False) as stale:
                if stale:  # whoever fetched it has died
                    path.unlink(missing_ok=True)
                    parts.discard(path)
                    del files[path]
        free = self.limit - size - sum(status.st_size for status in files.values())
        if size > self.limit:
            return free, 0
        for path, status in sorted(files.items(), key=lambda item: item[1].st_mtime_ns):
            if free >= 0:
                break
            if path not in parts:
                path.unlink(missing_ok=True)
                free += status.st_size
        return free, len(parts)


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _changed(url: str, now: int, before: int) -> str:
    remedy = f"index it again: robustclip data index '{shown(url)}'"
    return f"shard '{shown(url)}' has {now} bytes, and had {before} when it was indexed; {remedy}"
