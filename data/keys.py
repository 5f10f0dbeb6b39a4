"""The names of millions of samples, decoded one at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import overload

import numpy as np

from data.index_file import ShardIndex


class ShardKeys(Sequence[str]):
    """The keys of some shards, one after the other; equal to the list of them.

    Where two shards use the same key, all keys are prefixed with their shard's name.

    Args:
        indexes: of the shards.
        names: of the shards.

    Raises:
        ValueError: a key stands for two samples even so.
    """

    def __init__(self, indexes: Sequence[ShardIndex], names: Sequence[str]) -> None:
        self._indexes = list(indexes)
        self._ends = list(accumulate(map(len, indexes)))
        self._prefixes = [f"{name}/" for name in names] if _shared(indexes) else [""] * len(indexes)
        if self._prefixes and self._prefixes[0]:
            self._check(names)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        shard = bisect_right(self._ends, index)
        return self._prefixes[shard] + self._indexes[shard].key(index - (self._ends[shard - 1] if shard else 0))

    def __iter__(self) -> Iterator[str]:
        for prefix, index in zip(self._prefixes, self._indexes, strict=True):
            for key in index.all_keys():
                yield prefix + key

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        few = ", ".join(map(repr, self[:3]))
        return f"<{len(self)} keys: {few}{', ...' if len(self) > 3 else ''}>"

    def _check(self, names: Sequence[str]) -> None:
        shards = Counter(names)
        again = [i for i, name in enumerate(names) if shards[name] > 1]
        keys = Counter(self._prefixes[i] + key for i in again for key in self._indexes[i].all_keys())
        twice = next((key for key, count in keys.items() if count > 1), None)
        if twice is not None:
            raise ValueError(f"key '{twice}' stands for two samples; give the shards different file names")


class ChosenKeys(Sequence[str]):
    """Some of another sequence's keys, by their indices [N] int64."""

    def __init__(self, keys: Sequence[str], indices: np.ndarray) -> None:
        self._keys, self._indices = keys, indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._keys[int(i)] for i in self._indices[index]]
        return self._keys[int(self._indices[index])]

    __eq__ = ShardKeys.__eq__
    __hash__ = None  # pyright: ignore[reportAssignmentType]


def _shared(indexes: Sequence[ShardIndex]) -> bool:
    """Whether a key stands in two shards: their hashes first, then the few keys with equal ones."""
    if len(indexes) < 2:
        return False
    hashes = np.sort(np.concatenate([index.key_hash for index in indexes]))
    equal = hashes[1:][hashes[1:] == hashes[:-1]]
    if not len(equal):
        return False
    seen: set[str] = set()
    for index in indexes:
        rows = np.flatnonzero(np.isin(index.key_hash, equal)).tolist()
        found = {index.key(row) for row in rows}
        if len(found) < len(rows) or found & seen:
            return True
        seen |= found
    return False
