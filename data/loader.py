"""The one way in which this house builds a DataLoader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from data.fetch_ahead import FetchAhead
from data.plan import PositionBatches
from data.source import ImageSource


def position_loader(
    source: Dataset[Any],
    sampler: PositionBatches,
    collate: Callable[[list[Any]], Any],
    *,
    workers: int,
    seed: int,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """Batches of ``source`` in the sampler's order; the global random state is left alone.

    Args:
        source: samples by index.
        sampler: which indices, batch by batch.
        collate: samples to batch.
        workers: processes that read; 0 reads in this one.
        seed: of the workers' own generators, should a sample draw random numbers.
        pin_memory: give batches in page-locked memory.

    Raises:
        ValueError: the sampler was made for another number of samples.
    """
    samples = len(source)  # pyright: ignore[reportArgumentType]
    if sampler.n != samples:
        raise ValueError(f"the order is for {sampler.n} samples but the source holds {samples}")
    fetch = source.fetcher() if isinstance(source, ImageSource) else None
    if fetch is not None:
        sampler.ahead = FetchAhead(fetch)
    return DataLoader(
        source,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        generator=torch.Generator().manual_seed(seed),
        persistent_workers=workers > 0,
    )
