"""An order for shards that are far away: few of them are open at a time, and every sample comes once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data.permutation import keys_of, permute

_SHARDS, _SLOTS, _SAMPLES = (np.uint64(tag) for tag in (1, 2, 3))  # keep the three kinds of keys apart


class ShardOrder:
    """The shards in a shuffled order, and their samples mixed within a window that slides along it.

    Each epoch shuffles the shards on a circle and each shard's samples, and cuts every shard into ``window`` chunks.
    Slot t of the epoch mixes chunk 0 of the t-th shard, chunk 1 of the one before, and so on: so one shard comes in
    and one goes out per slot, and each sample of each shard has its place in exactly one slot.  As with samples, the
    order is a function of (seed, position): no state, any start.

    Args:
        counts: samples of each shard, in the order of the indices.
        window: shards that are open at a time; all of them where there are fewer.

    Raises:
        ValueError: a window below 1, or no samples.
    """

    def __init__(self, counts: Sequence[int] | np.ndarray, window: int) -> None:
        self.counts = np.asarray(counts, dtype=np.int64)
        if window < 1:
            raise ValueError(f"a window of {window} shards is too small; choose 1 or more")
        if self.counts.ndim != 1 or (self.counts < 0).any() or not self.counts.sum():
            raise ValueError("an order needs at least one sample")
        self.window = min(window, len(self.counts))
        self.n = int(self.counts.sum())
        self._starts = np.cumsum(self.counts) - self.counts
        self._epoch = lru_cache(maxsize=2)(self._plan)

    def indices(self, seed: int, start: int, count: int) -> np.ndarray:
        """[count] int64 indices at the positions start .. start + count - 1."""
        found = np.empty(count, dtype=np.int64)
        done = 0
        while done < count:
            epoch, first = divmod(start + done, self.n)
            stop = min(self.n, first + count - done)
            found[done : done + stop - first] = self._within(seed, epoch, np.arange(first, stop))
            done += stop - first
        return found

    def shards_at(self, seed: int, position: int, ahead: int = 0) -> list[int]:
        """The shards that are open at a position and, in their order, the next ``ahead`` ones."""
        epoch, place = divmod(position, self.n)
        plan = self._epoch(seed, epoch)
        slot = int(np.searchsorted(plan.slot_ends, place, side="right"))
        line = len(self.counts)
        open_now = [int(plan.shards[(slot - j) % line]) for j in reversed(range(self.window))]
        following = self._epoch(seed, epoch + 1)
        coming = [*plan.shards[slot + 1 :], *following.shards[-self.window + 1 :], *following.shards]
        return list(dict.fromkeys([*open_now, *map(int, coming)]))[: len(open_now) + ahead]

    def of_some(self, indices: np.ndarray) -> ShardOrder:
        """The order of a source that holds just these samples, named by rising indices."""
        shard = np.searchsorted(self._starts + self.counts, indices, side="right")
        return ShardOrder(np.bincount(shard, minlength=len(self.counts)), self.window)

    def __getstate__(self) -> dict[str, object]:
        return {"counts": self.counts, "window": self.window}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(state["counts"], state["window"])  # pyright: ignore[reportArgumentType]

    def _within(self, seed: int, epoch: int, places: np.ndarray) -> np.ndarray:
        plan = self._epoch(seed, epoch)
        slot = np.searchsorted(plan.slot_ends, places, side="right")
        ends = plan.chunk_ends[slot]  # [M, window]
        in_slot = (places - (plan.slot_ends[slot] - ends[:, -1])).astype(np.uint64)
        mixed = permute(in_slot, self._keys(seed, _SLOTS, epoch, slot), ends[:, -1].astype(np.uint64)).astype(np.int64)
        chunk = (mixed[:, None] >= ends).sum(axis=1)
        before = np.where(chunk > 0, ends[np.arange(len(slot)), chunk - 1], 0)
        shard = plan.shards[(slot - chunk) % len(self.counts)]
        in_shard = self.counts[shard] * chunk // self.window + mixed - before
        sizes = self.counts[shard].astype(np.uint64)
        inner = permute(in_shard.astype(np.uint64), self._keys(seed, _SAMPLES, epoch, shard), sizes)
        return self._starts[shard] + inner.astype(np.int64)

    def _plan(self, seed: int, epoch: int) -> _Epoch:
        line = np.arange(len(self.counts))
        moved = permute(line.astype(np.uint64), self._keys(seed, _SHARDS, epoch, np.zeros_like(line)), len(line))
        shards = moved.astype(np.int64)
        sizes = np.empty((len(line), self.window), dtype=np.int64)
        for j in range(self.window):
            counts = self.counts[shards[(line - j) % len(line)]]
            sizes[:, j] = counts * (j + 1) // self.window - counts * j // self.window
        return _Epoch(shards, np.cumsum(sizes, axis=1), np.cumsum(sizes.sum(axis=1)))

    def _keys(self, seed: int, kind: np.uint64, epoch: int, which: np.ndarray) -> np.ndarray:
        epochs = np.full(len(which), epoch, dtype=np.uint64)
        return keys_of(seed, np.full_like(epochs, kind), epochs, which.astype(np.uint64))


@dataclass(frozen=True, eq=False)
class _Epoch:
    """One epoch: the shards in their order, and the ends of the chunks [slots, window] and slots [slots]."""

    shards: np.ndarray
    chunk_ends: np.ndarray
    slot_ends: np.ndarray
