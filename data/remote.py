"""Shards behind addresses: small indexes that are kept, and content that comes through a bounded cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.addresses import file_name, shown, sibling
from data.cache_folder import locked, name_in_cache, write_bytes
from data.download import fetch_small
from data.index_file import ShardIndex, index_tar, pack_index, unpack_index
from data.index_store import ENDING, FoundIndex, read_index
from data.manifest import MANIFEST, read_manifest
from data.shard_cache import ShardCache


class RemoteShards:
    """What is known and kept of shards elsewhere.

    Args:
        cache: for their content.
        form: the format of an ``index.json`` beside them.
        fresh: ask again for what is kept already.
    """

    def __init__(self, cache: ShardCache, form: str, *, fresh: bool = False) -> None:
        self.cache, self._form, self._fresh = cache, form, fresh
        self._records: dict[str, dict[str, dict[str, Any]]] = {}

    def index(self, url: str) -> FoundIndex:
        """The index of a shard: kept, or fetched from beside it, or built from the whole shard; then kept.

        Raises:
            ValueError: the shard cannot be fetched.
        """
        file = self.cache.root / "indexes" / name_in_cache(url, ENDING)
        with locked(file.with_name(file.name + ".lock")):
            kept = read_index(file)
            if kept is not None and not self._fresh:
                return FoundIndex(kept, "read", file)
            index = self._fetched(url)
            if index is None:
                if self._fresh:
                    self.cache.drop(url)
                index = self._built(url)
            write_bytes(file, pack_index(index))
        return FoundIndex(index, "built" if kept is None else "read" if kept.equals(index) else "rebuilt", file)

    def record(self, url: str) -> dict[str, Any] | None:
        """What the ``index.json`` beside a shard says of it; None where there is none.

        Raises:
            ValueError: an ``index.json`` that is damaged, or the network fails.
        """
        place = sibling(url, MANIFEST)
        if place not in self._records:
            file = small_file(self.cache, place, fresh=self._fresh)
            manifest = read_manifest(file.parent, self._form) if file else None
            self._records[place] = {shard["name"]: shard for shard in (manifest or {"shards": []})["shards"]}
        return self._records[place].get(file_name(url))

    def open(self, url: str, size: int) -> int:
        """A file descriptor of the shard, which must have ``size`` bytes."""
        return self.cache.open(url, {**(self.record(url) or {}), "bytes": size})

    def _fetched(self, url: str) -> ShardIndex | None:
        content = fetch_small(sibling(url, file_name(url) + ENDING))
        try:
            return None if content is None else unpack_index(content)
        except ValueError:
            return None

    def _built(self, url: str) -> ShardIndex:
        path: Path = self.cache.path_of(url)
        for attempt in range(3):
            self.cache.fetch(url, self.record(url))
            try:
                return index_tar(path)
            except (OSError, ValueError):  # made room for others at this very moment
                if path.exists() or attempt == 2:
                    raise
        raise AssertionError(f"unreachable: {shown(url)}")


def small_file(cache: ShardCache, url: str, *, fresh: bool = False) -> Path | None:
    """A small file from elsewhere, which is then kept; None where there is none, which is kept in mind too.

    Args:
        cache: beside whose shards it is kept.
        url: of the file.
        fresh: ask again.

    Raises:
        ValueError: the network fails.
    """
    path = cache.root / "indexes" / name_in_cache(url) / file_name(url)
    with locked(path.parent.with_name(path.parent.name + ".lock")):
        if fresh or not path.exists():
            write_bytes(path, fetch_small(url) or b"")
    return path if path.stat().st_size else None
