"""Random access to the samples of tars: local ones, and those that a cache fetches."""

from __future__ import annotations

import logging
import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from data.addresses import file_name, is_address, shown
from data.index_file import index_tar
from data.index_store import FoundIndex, find_index
from data.keys import ShardKeys
from data.manifest import check_file, read_manifest
from data.open_files import OpenFiles
from data.progress import track
from data.remote import RemoteShards
from data.shard_cache import ShardCache
from data.tars import MAX_MEMBER_BYTES, ShardError

log = logging.getLogger(__name__)

FORMAT = "robustclip-shards/1"
_EXPECTED_BYTES = 2**24  # a sample's members may lie apart


class IndexedShards:
    """Random access to the samples of some tars, whose indexes are kept in files (``data.index_store``).

    Only offsets are in memory, in flat arrays, and each process opens the files anew: safe in any worker.
    Members of one key belong to one sample wherever they lie in a shard.  Keys are those in the
    tars; where two shards use the same key, all keys are prefixed with their shard's name.

    Args:
        urls: paths or addresses, as ``expand`` gives them.
        skip_bad: keep the whole samples of a damaged shard and count the fault, instead of raising.
        max_member_bytes: size above which a member is refused.
        checksum: go through all headers anyway, and compare each shard with its sha256 where an ``index.json`` is
            beside it.
        cache: for shards elsewhere; None takes the user's.
        fresh: ask again for the indexes of shards elsewhere.

    Attributes:
        counts: samples of each shard.
        lost: samples that ``index.json`` counts and damaged shards no longer hold.
        made: how many indexes were read, built and rebuilt.

    Raises:
        ValueError: a shard is missing, damaged, cut short, empty, or not as ``index.json`` says.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        skip_bad: bool = False,
        max_member_bytes: int = MAX_MEMBER_BYTES,
        checksum: bool = False,
        cache: ShardCache | None = None,
        fresh: bool = False,
    ) -> None:
        self.shards = list(urls)
        self.rejected: Counter[str] = Counter()
        self.made: Counter[str] = Counter()
        self.lost = 0
        self._remote = RemoteShards(cache or ShardCache(), FORMAT, fresh=fresh)
        self._manifests: dict[Path, dict[str, dict[str, Any]]] = {}
        self._skip_bad, self._checksum, self._limit = skip_bad, checksum, max_member_bytes
        found = [self._find(url) for url in track(self.shards, "index the shards", len(self.shards))]
        self._indexes = [one.index for one in found]
        self._tell(found)
        self.counts = [len(index) for index in self._indexes]
        self._ends = list(accumulate(self.counts))
        if not self._ends or not self._ends[-1]:
            fault = next((index.fault for index in self._indexes if index.fault), "")
            what = "the shard holds" if len(self.shards) == 1 else f"the {len(self.shards)} shards hold"
            raise ShardError(f"{what} no samples" + (f": {fault}" if fault else f"; check {shown(self.shards[0])}"))
        self.keys = ShardKeys(self._indexes, [Path(file_name(url)).stem for url in self.shards])
        self._files = OpenFiles(self._open)

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, i: int, only: Collection[str] | None = None) -> dict[str, bytes]:
        """Sample i as {extension: content}; with ``only``, just these extensions.

        Raises:
            ValueError: the shard has changed since it was indexed, or cannot be fetched.
        """
        shard, row = self._place(i)
        index = self._indexes[shard]
        members = slice(int(index.first[row]), int(index.first[row + 1]))
        parts = [
            (index.extensions[ext], offset, size)
            for ext, offset, size in zip(
                index.extension[members].tolist(),
                index.offset[members].tolist(),
                index.size[members].tolist(),
                strict=True,
            )
            if only is None or index.extensions[ext] in only
        ]
        content = {ext: self._files.read(shard, offset, size) for ext, offset, size in parts}
        if any(len(content[ext]) != size for ext, _, size in parts):
            raise ShardError(f"shard '{shown(self.shards[shard])}' has become shorter since it was indexed")
        return content

    def expect(self, i: int) -> None:
        """Have the system fetch sample i, which will be read soon, without waiting for it."""
        shard, row = self._place(i)
        if is_address(self.shards[shard]):
            return  # it comes whole
        index = self._indexes[shard]
        first, last = int(index.first[row]), int(index.first[row + 1]) - 1
        start, end = int(index.offset[first]), int(index.offset[last]) + int(index.size[last])
        with suppress(OSError):  # who reads it says so
            if 0 < end - start <= _EXPECTED_BYTES:
                self._files.expect(shard, start, end - start)

    def extensions(self, i: int) -> list[str]:
        """The extensions of sample i, in the tar's order, without reading it."""
        shard, row = self._place(i)
        index = self._indexes[shard]
        return [index.extensions[e] for e in index.extension[index.first[row] : index.first[row + 1]]]

    def having(self, wanted: Callable[[str], bool]) -> np.ndarray:
        """[N] bool: whether a sample has a member whose extension is ``wanted``, without reading it."""
        parts = []
        for index in self._indexes:
            chosen = np.array([wanted(name) for name in index.extensions], dtype=bool)
            if len(index):
                parts.append(np.logical_or.reduceat(chosen[index.extension], index.first[:-1].astype(np.int64)))
        return np.concatenate(parts)

    def where(self, i: int) -> str:
        """Shard and key of sample i, for messages."""
        return f"shard '{shown(self.shards[self._place(i)[0]])}', key '{self.keys[i]}'"

    def fetch(self, shard: int) -> None:
        """Have a shard in the cache, should it lie elsewhere."""
        if is_address(self.shards[shard]):
            os.close(self._open(shard))

    @property
    def remote(self) -> bool:
        """Whether any shard lies elsewhere."""
        return any(map(is_address, self.shards))

    def sizes(self) -> list[int]:
        """Bytes of each shard."""
        return [int(index.tar["bytes"]) for index in self._indexes]

    def _place(self, i: int) -> tuple[int, int]:
        i = range(len(self))[i]
        shard = bisect_right(self._ends, i)
        return shard, i - (self._ends[shard - 1] if shard else 0)

    def _open(self, shard: int) -> int:
        url = self.shards[shard]
        if is_address(url):
            return self._remote.open(url, int(self._indexes[shard].tar["bytes"]))
        return os.open(url, os.O_RDONLY | os.O_CLOEXEC)

    def _find(self, url: str) -> FoundIndex:
        """The index of one shard; its faults raise or are counted."""
        if is_address(url):
            found = self._remote.index(url)
        elif self._limit != MAX_MEMBER_BYTES:
            found = FoundIndex(index_tar(Path(url), max_member_bytes=self._limit), "built", None)
        else:
            found = find_index(Path(url), checksum=self._checksum)
        index = found.index
        if index.fault:
            if not self._skip_bad:
                raise ShardError(index.fault)
            log.warning("kept the whole samples only: %s", index.fault)
            self.rejected["damaged shard"] += 1
        if not len(index) and not self._skip_bad:
            refused = sum(index.rejected.values())
            raise ShardError(f"shard '{shown(url)}' holds no samples" + (f" ({refused} refused)" if refused else ""))
        self.rejected.update(index.rejected)
        self._compare(url, found)
        return found

    def _compare(self, url: str, found: FoundIndex) -> None:
        record = self._record(url)
        if record is None:
            return
        self.lost += max(0, record["count"] - len(found.index))
        try:
            if not is_address(url):
                check_file(Path(url), record, checksum=self._checksum)
            if len(found.index) != record["count"]:
                held = f"holds {len(found.index)} samples but its index.json says {record['count']}"
                raise ShardError(f"shard '{shown(url)}' {held}")
        except ValueError as error:
            if not self._skip_bad:
                raise
            log.warning("kept a doubtful shard: %s", error)
            self.rejected["not as its index.json says"] += 1

    def _record(self, url: str) -> dict[str, Any] | None:
        if is_address(url):
            return self._remote.record(url)
        folder = Path(url).parent
        if folder not in self._manifests:
            manifest = read_manifest(folder, FORMAT) or {"shards": []}
            self._manifests[folder] = {shard["name"]: shard for shard in manifest["shards"]}
        return self._manifests[folder].get(Path(url).name)

    def _tell(self, found: list[FoundIndex]) -> None:
        self.made.update(one.how for one in found)
        if self.rejected:
            log.warning("%d shards: refused %s", len(self.shards), dict(sorted(self.rejected.items())))
        again = [url for url, one in zip(self.shards, found, strict=True) if one.how == "rebuilt"]
        if again:
            log.warning("%d indexes did not fit their shards and were made again: %s", len(again), shown(again[0]))
        unkept = sum(one.file is None for one in found)
        if unkept and self._limit == MAX_MEMBER_BYTES:
            log.warning("%d indexes could not be kept; set ROBUSTCLIP_CACHE to a folder that can be written", unkept)
