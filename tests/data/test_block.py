"""A batch decoded in place is the batch of its samples, and needs no copy on its way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.batches import StackedSamples, collate_images
from data.block import empty_block
from data.captioned import captioned
from data.images import ShardImages, training_loader
from data.plan import PositionBatches, sample_indices
from data.shard_index import IndexedShards
from data.shards import expand, write_shards
from data.source import SelectedImages

Picture = Callable[..., bytes]


@pytest.fixture
def source(tmp_path: Path, picture: Picture) -> ShardImages:
    forms = ("PNG", "JPEG", "PNG", "WEBP")
    samples = [
        {"__key__": f"s{i}", forms[i % 4].lower(): picture(i, (20 + i, 33 - i), forms[i % 4]), "cls": str(i % 3)}
        for i in range(12)
    ]
    samples[5]["jpeg"] = b"broken"
    write_shards(tmp_path / "set", samples, per_shard=5)
    index = IndexedShards(expand(str(tmp_path / "set")))
    return ShardImages(index, 16, ["a", "b", "c"], ["a photo of a {}."], skip_bad=True)


def test_a_batch_decoded_in_place_is_the_stack_of_its_samples(source: ShardImages) -> None:
    indices = [7, 0, 5, 5, 11, 3]  # 5 is bad: 6 takes its place
    together = source.__getitems__(indices)
    batch, alone = collate_images(together), collate_images([source[i] for i in indices])
    assert isinstance(together, StackedSamples) and batch.x is together.x
    assert torch.equal(batch.x, alone.x) and torch.equal(batch.y, alone.y) and batch.key == alone.key


def test_sources_around_it_keep_the_block(source: ShardImages) -> None:
    some = SelectedImages(captioned(source), [10, 2, 4])
    together = some.__getitems__([2, 0])
    assert isinstance(together, StackedSamples)
    assert [sample.key for sample in together] == ["s4", "s10"]
    assert collate_images(together).caption == (some[2].caption, some[0].caption)


def test_pictures_of_their_own_sizes_are_not_stacked(source: ShardImages) -> None:
    free = ShardImages(source.shards, None)
    assert [sample.x.shape for sample in free.__getitems__([0, 1])] == [(3, 33, 20), (3, 32, 21)]


def test_a_worker_decodes_into_memory_that_it_shares(source: ShardImages) -> None:
    assert not empty_block(2, 3, 4, 4).is_shared()
    order = PositionBatches(n=12, batch_size=4, seed=1, limit=6)
    alone = [batch.x for batch in training_loader(source, order, 0, seed=0)]
    for one, other in zip(training_loader(source, order, 2, seed=0), alone, strict=True):
        assert one.x.is_shared() and torch.equal(one.x, other)


def test_where_shared_memory_is_full_a_worker_says_so_and_nobody_waits_for_ever(
    source: ShardImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: torch.Tensor) -> torch.Tensor:
        if self.is_shared():
            return self
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)  # in workers too, which are forks of this process
    order = PositionBatches(n=12, batch_size=4, seed=1, limit=6)
    with pytest.raises(RuntimeError, match="No space left on device"):
        list(training_loader(source, order, 1, seed=0))
    assert len(list(training_loader(source, order, 0, seed=0))) == 6


@pytest.mark.parametrize(("batch", "ranks", "limit"), [(6, 1, 700), (6, 3, 700), (4000, 2, 3)])
def test_batches_that_are_looked_up_together_are_those_looked_up_alone(batch: int, ranks: int, limit: int) -> None:
    share = batch // ranks
    for rank in range(ranks):
        order = PositionBatches(
            n=101, batch_size=batch, seed=9, start_position=55, rank=rank, world_size=ranks, limit=limit
        )
        for number, found in enumerate(order):
            if number in (0, 1, 340, 341, 342, 699):
                first = 55 + number * batch + rank * share
                assert found == sample_indices(9, first, share, 101).tolist()
