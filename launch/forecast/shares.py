"""What each process reads of a batch, by the very plan that training follows."""

from __future__ import annotations

from typing import Any

from configs.files import ConfigError
from data.plan import PositionBatches

_STANDS_FOR = 1_000_003  # samples of a data set that is not here
_LOOKED_AT = 3  # batches


def equal_shares(batch_size: int, processes: int, *, seed: int = 0) -> int:
    """Samples of a batch that each process reads; the first batches are looked at on every process.

    Raises:
        ConfigError: processes cannot share a batch equally.
    """
    if batch_size % processes:
        raise ConfigError(
            f"data.batch_size is {batch_size} over all processes, and {processes} cannot share it equally: choose a "
            f"multiple of {processes}"
        )
    plan: dict[str, Any] = {"n": _STANDS_FOR, "batch_size": batch_size, "seed": seed, "limit": _LOOKED_AT}
    ranks = [PositionBatches(rank=rank, world_size=processes, **plan) for rank in range(processes)]
    for batch, *parts in zip(PositionBatches(**plan), *ranks, strict=True):
        assert {len(part) for part in parts} == {batch_size // processes}, "a process reads more than another"
        assert [index for part in parts for index in part] == batch, "the parts are not the batch"
    return batch_size // processes
