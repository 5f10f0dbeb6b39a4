"""Which samples a process reads, from which position on."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from data.batches import EmbeddingBatch, ImageBatch
from data.embeddings import EmbeddingShards, write_embeddings
from data.sample import digits
from train.datamodules import PositionedData


def batches(source: Any, count: int, *, rank: int = 0, world: int = 1, step: int = 0, **settings: Any) -> list[Any]:
    data: Any = PositionedData(source, **{"batch_size": 8, "workers": 0, "seed": 3, **settings})
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world, global_step=step)
    return list(islice(data.train_dataloader(), count))


def keys(found: list[Any]) -> list[str]:
    return [key for batch in found for key in batch.key]


def test_a_run_that_goes_on_reads_what_the_first_one_would_have_read() -> None:
    source = digits("train", 30)
    whole = batches(source, 6)
    assert isinstance(whole[0], ImageBatch)
    assert keys(batches(source, 4, step=2)) == keys(whole[2:])
    assert sorted(keys(whole)[:30]) == sorted(source.keys)  # an epoch, across the edge of a batch


def test_processes_share_each_batch() -> None:
    source = digits("train", 30)
    whole = batches(source, 3)
    halves = [batches(source, 3, rank=rank, world=2) for rank in (0, 1)]
    for batch, left, right in zip(whole, *halves, strict=True):
        assert batch.key == (*left.key, *right.key)
        assert torch.equal(batch.x, torch.cat([left.x, right.x]))


def test_the_seed_decides_the_order() -> None:
    source = digits("train", 30)
    assert keys(batches(source, 3)) != keys(batches(source, 3, seed=4))


def test_embeddings_are_read_the_same_way(tmp_path: Path) -> None:
    names = tuple(f"k{i}" for i in range(20))
    numbers = torch.nn.functional.normalize(torch.rand(20, 4), dim=1)
    write_embeddings(tmp_path / "shards", iter([EmbeddingBatch(numbers, numbers, None, names)]), {"encoder": "e"})
    source = EmbeddingShards(str(tmp_path / "shards"))
    whole = batches(source, 5)
    assert isinstance(whole[0], EmbeddingBatch)
    assert keys(batches(source, 3, step=1, accumulate=2)) == keys(whole[2:])


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="batch size of 8 cannot be shared equally by 3 processes"):
        batches(digits("train", 30), 1, world=3)
