"""The order of the data is a function, (seed, position) -> index, without state or world size.

A run's state is one number, the position of its next sample.  Position p lies in epoch p // n, and
every epoch visits each index once, in an order of its own.  So a run may stop anywhere and go on
with other numbers of processes, workers or samples per batch, repeating and losing nothing.
``data.shard_order`` is the same for shards that must be fetched first.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

import numpy as np
from torch.utils.data import Sampler

from data.fetch_ahead import FetchAhead
from data.permutation import keys_of, permute
from data.shard_order import ShardOrder

_TOGETHER = 1024  # positions that are looked up together
_AHEAD = 1  # shards that are fetched before their turn; a cache for shards has room for one more than is open


def sample_index(seed: int, position: int, n: int) -> int:
    """The index in 0..n-1 at ``position`` (0, 1, 2, ... without end) of the shuffled data."""
    return int(sample_indices(seed, position, 1, n)[0])


def sample_indices(seed: int, start: int, count: int, n: int) -> np.ndarray:
    """[count] int64 indices at the positions start .. start + count - 1.

    Args:
        seed: any integer.
        start: first position, >= 0.
        count: how many positions, >= 0.
        n: number of samples, >= 1.
    """
    _check_positions(start, n)
    return _indices_at(seed, np.arange(start, start + count, dtype=np.uint64), n)


def _indices_at(seed: int, positions: np.ndarray, n: int) -> np.ndarray:
    epoch, index = np.divmod(positions, np.uint64(n))
    return permute(index, keys_of(seed, epoch), n).astype(np.int64)


class PositionBatches(Sampler[list[int]]):
    """This rank's share of one endless stream of global batches.

    Batch b holds the positions from start + b * batch_size up to the next batch; each rank takes an
    equal, contiguous part.  Whatever the world size, the ranks together see the same batches.

    Args:
        n: number of samples in the source.
        batch_size: samples of a global batch, all ranks together.
        seed: of the order.
        start_position: samples consumed before, by all ranks together.
        rank: of this process.
        world_size: number of processes.
        shuffle: True mixes all samples; a ``ShardOrder`` those of a few shards at a time; False keeps the source's
            order in every epoch.
        limit: number of batches to give; None never ends.

    Attributes:
        ahead: fetches shards before their turn, where a ``ShardOrder`` says which are next.

    Raises:
        ValueError: an empty source, or a batch size that the ranks cannot share equally.
    """

    def __init__(
        self,
        *,
        n: int,
        batch_size: int,
        seed: int,
        start_position: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool | ShardOrder = True,
        limit: int | None = None,
    ) -> None:
        _check_positions(start_position, n)
        if isinstance(shuffle, ShardOrder) and shuffle.n != n:
            raise ValueError(f"the order of shards is for {shuffle.n} samples but the source holds {n}")
        if batch_size < 1 or world_size < 1 or batch_size % world_size:
            raise ValueError(
                f"a batch size of {batch_size} cannot be shared equally by {world_size} processes; "
                f"choose a multiple of {world_size}"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} lies outside 0..{world_size - 1}")
        if limit is not None and limit < 0:
            raise ValueError(f"a limit of {limit} batches is negative")
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.start_position, self.shuffle, self.limit = start_position, shuffle, limit
        self.rank, self.world_size = rank, world_size
        self.ahead: FetchAhead | None = None

    def position_after(self, batches: int) -> int:
        """The ``start_position`` of a run that goes on after ``batches`` batches of this one."""
        return self.start_position + batches * self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        try:
            yield from islice(self._batches(), self.limit)
        finally:
            if self.ahead is not None:
                self.ahead.close()

    def _batches(self) -> Iterator[list[int]]:
        share = self.batch_size // self.world_size
        firsts = count(self.start_position + self.rank * share, self.batch_size)
        if isinstance(self.shuffle, ShardOrder):
            for first in firsts:
                if self.ahead is not None:
                    self.ahead.want(self.shuffle.shards_at(self.seed, first, ahead=_AHEAD))
                yield self.shuffle.indices(self.seed, first, share).tolist()
        elif self.shuffle:
            within = np.arange(share, dtype=np.uint64)
            while True:  # many batches together: one at a time costs a millisecond each
                some = np.array(list(islice(firsts, max(1, _TOGETHER // share))), dtype=np.uint64)
                positions = (some[:, None] + within).ravel()
                yield from _indices_at(self.seed, positions, self.n).reshape(-1, share).tolist()
        else:
            for first in firsts:
                yield [position % self.n for position in range(first, first + share)]

    def __len__(self) -> int:
        # A TypeError is how Python, PyTorch and Lightning recognise a stream that has no length.
        if self.limit is None:
            raise TypeError("an endless stream of batches has no length; give it a limit")
        return self.limit


def _check_positions(start: int, n: int) -> None:
    if n < 1:
        raise ValueError(f"the source holds {n} samples; an order needs at least one")
    if start < 0:
        raise ValueError(f"position {start} is negative; positions count from 0")
