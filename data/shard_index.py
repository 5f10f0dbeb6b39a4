"""Random access to the samples of tars, from one pass over their headers."""

from __future__ import annotations

import logging
from array import array
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from data.manifest import check_file, read_manifest
from data.progress import track
from data.tars import MAX_MEMBER_BYTES, Member, ShardError, members

log = logging.getLogger(__name__)

FORMAT = "robustclip-shards/1"


class IndexedShards:
    """Random access to the samples of some tars, from one pass over their headers.

    Only offsets are kept, in flat arrays, and each read opens its file anew: safe in any worker.
    Members of one key belong to one sample wherever they lie in a shard.  Keys are those in the
    tars; where two shards use the same key, all keys are prefixed with their shard's name.

    Args:
        urls: paths, as ``expand`` gives them.
        skip_bad: keep the whole samples of a damaged shard and count the fault, instead of raising.
        max_member_bytes: size above which a member is refused.
        checksum: also compare each shard with its sha256, where an ``index.json`` is beside it.

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
    ) -> None:
        self.shards = list(urls)
        self.rejected: Counter[str] = Counter()
        self.keys: list[str] = []
        self._shard, self._first = array("l"), array("q", [0])
        self._offset, self._size, self._ext = array("q"), array("q"), array("l")
        self._extensions: dict[str, int] = {}
        for number, url in enumerate(track(self.shards, "index the shards", len(self.shards))):
            count = self._add(number, Path(url), skip_bad, max_member_bytes)
            record = _record(Path(url))
            if record is not None:
                _compare(Path(url), record, count, self.rejected if skip_bad else None, checksum)
        if self.rejected:
            log.warning("%d shards: refused %s", len(self.shards), dict(sorted(self.rejected.items())))
        if not self.keys:
            raise ValueError(f"the {len(self.shards)} shards hold no samples")
        if len(set(self.keys)) < len(self.keys):
            self._prefix_keys()

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, i: int, only: Collection[str] | None = None) -> dict[str, bytes]:
        """Sample i as {extension: content}; with ``only``, just these extensions.

        Raises:
            ValueError: the shard has changed since it was indexed.
        """
        names = list(self._extensions)
        path = self.shards[self._shard[i]]
        content: dict[str, bytes] = {}
        with Path(path).open("rb") as file:
            for m in range(self._first[i], self._first[i + 1]):
                ext = names[self._ext[m]]
                if only is not None and ext not in only:
                    continue
                file.seek(self._offset[m])
                content[ext] = file.read(self._size[m])
                if len(content[ext]) != self._size[m]:
                    raise ShardError(f"shard '{path}' has become shorter since it was indexed")
        return content

    def extensions(self, i: int) -> list[str]:
        """The extensions of sample i, in the tar's order, without reading it."""
        names = list(self._extensions)
        return [names[e] for e in self._ext[self._first[i] : self._first[i + 1]]]

    def where(self, i: int) -> str:
        """Shard and key of sample i, for messages."""
        return f"shard '{self.shards[self._shard[i]]}', key '{self.keys[i]}'"

    def _add(self, number: int, path: Path, skip_bad: bool, max_member_bytes: int) -> int:
        samples: dict[str, dict[str, Member]] = {}
        before, last = self.rejected.total(), None
        try:
            for member in members(path, self.rejected, max_member_bytes=max_member_bytes):
                last = member.key
                if member.ext in samples.setdefault(member.key, {}):
                    self.rejected["duplicate member"] += 1
                else:
                    samples[member.key][member.ext] = member
        except ShardError as error:
            if not skip_bad:
                raise
            log.warning("kept the whole samples only: %s", error)
            self.rejected["damaged shard"] += 1
            samples.pop(last or "", None)  # it may have lost a part
        if not samples and not skip_bad:
            refused = self.rejected.total() - before
            raise ShardError(f"shard '{path}' holds no samples" + (f" ({refused} refused)" if refused else ""))
        for key, parts in samples.items():
            self.keys.append(key)
            self._shard.append(number)
            for member in parts.values():
                self._offset.append(member.offset)
                self._size.append(member.size)
                self._ext.append(self._extensions.setdefault(member.ext, len(self._extensions)))
            self._first.append(len(self._offset))
        return len(samples)

    def _prefix_keys(self) -> None:
        names = [Path(path).stem for path in self.shards]
        self.keys = [f"{names[s]}/{key}" for s, key in zip(self._shard, self.keys, strict=True)]
        twice = next((key for key, count in Counter(self.keys).items() if count > 1), None)
        if twice is not None:
            raise ValueError(f"key '{twice}' stands for two samples; give the shards different file names")


def _record(path: Path) -> dict[str, Any] | None:
    manifest = read_manifest(path.parent, FORMAT)
    shards = manifest["shards"] if manifest else []
    return next((shard for shard in shards if shard["name"] == path.name), None)


def _compare(path: Path, record: dict[str, Any], count: int, rejected: Counter[str] | None, checksum: bool) -> None:
    try:
        check_file(path, record, checksum=checksum)
        if count != record["count"]:
            raise ShardError(f"shard '{path}' holds {count} samples but its index.json says {record['count']}")
    except ValueError as error:
        if rejected is None:
            raise
        log.warning("kept a doubtful shard: %s", error)
        rejected["not as its index.json says"] += 1
