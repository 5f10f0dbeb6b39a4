from __future__ import annotations

import logging
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from data.images import ShardImages, choose_images, evaluation_batches, images_named, training_loader
from data.plan import PositionBatches
from data.sample import digits
from data.shards import IndexedShards, write_shards
from data.source import TensorImages

Picture = Callable[..., bytes]
BAD = {3: b"<html>not found</html>", 7: b""}


@pytest.fixture
def shards(tmp_path: Path, picture: Picture) -> IndexedShards:
    """Twelve labelled pictures in three shards; numbers 3 and 7 are no pictures."""
    samples = [
        {
            "__key__": f"s{i}",
            "png": BAD.get(i, picture(i)),
            "cls": str(i % 4),
            "txt": f" text {i}\n",
        }
        for i in range(12)
    ]
    return IndexedShards([str(p) for p in write_shards(tmp_path / "x", samples, per_shard=4)])


def _one(tmp_path: Path, **fields: bytes) -> ShardImages:
    sample = {"__key__": "s0", **{name.replace("_", "."): value for name, value in fields.items()}}
    paths = write_shards(tmp_path / "one", [sample])
    return ShardImages(IndexedShards([str(p) for p in paths]), None, ["a", "b"])


def test_pictures_come_with_label_key_and_caption(shards: IndexedShards) -> None:
    source = ShardImages(shards, 6, ["a", "b", "c", "d"])
    sample = source[5]
    assert (sample.y, sample.key, sample.caption) == (1, "s5", "text 5")
    assert sample.x.shape == (3, 6, 6)
    assert len(source) == 12


def test_in_evaluation_a_bad_picture_stops_and_is_named(shards: IndexedShards) -> None:
    with pytest.raises(ValueError, match=r"not an image \(.*shard '.*0\.tar', key 's3'\)"):
        list(evaluation_batches(ShardImages(shards, 8), 5))


def test_in_training_the_next_good_picture_comes_and_the_bad_ones_are_counted_once(
    shards: IndexedShards, caplog: pytest.LogCaptureFixture
) -> None:
    source = ShardImages(shards, 8, skip_bad=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert [source[i].key for i in (2, 3, 7, 11)] == ["s2", "s4", "s8", "s11"]
    assert source.bad() == {"empty": 1, "not an image": 1}
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "key 's3'" in caplog.messages[0]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_count_bad_pictures_for_all(
    shards: IndexedShards, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = ShardImages(shards, 8, skip_bad=True)
    order = PositionBatches(n=12, batch_size=6, seed=0, limit=4)
    loader = training_loader(source, order, 1, seed=0)
    loader.multiprocessing_context = method
    keys = [key for batch in loader for key in batch.key]
    assert len(keys) == 24
    assert not {"s3", "s7"} & set(keys)
    assert source.bad() == {"empty": 1, "not an image": 1}


def test_a_source_without_one_good_picture_is_an_error(tmp_path: Path) -> None:
    paths = write_shards(tmp_path / "x", [{"__key__": "a", "jpg": b"no"}])
    source = ShardImages(IndexedShards([str(p) for p in paths]), 8, skip_bad=True)
    with pytest.raises(ValueError, match="none of the 1 samples"):
        source[0]


def test_missing_and_ambiguous_pictures_are_named(tmp_path: Path, picture: Picture) -> None:
    with pytest.raises(ValueError, match=r"no picture \(cls, txt;"):
        _one(tmp_path / "a", cls=b"0", txt=b"x")[0]
    with pytest.raises(ValueError, match=r"several pictures \(jpg, png;"):
        _one(tmp_path / "b", jpg=picture(), png=picture())[0]
    assert _one(tmp_path / "c", left_png=picture())[0].x.shape == (3, 8, 8)


@pytest.mark.parametrize("label", [b"2", b"-2", b"cat", b"", b"1.0", b"\xff"])
def test_a_label_that_no_class_has_is_named(label: bytes, tmp_path: Path, picture: Picture) -> None:
    with pytest.raises(ValueError, match=r"bad label \('.*' with 2 classes; shard '.*', key 's0'\)"):
        _one(tmp_path, png=picture(), cls=label)[0]


def test_labels_and_captions_may_be_missing(tmp_path: Path, picture: Picture) -> None:
    sample = _one(tmp_path, png=picture())[0]
    assert (sample.y, sample.caption) == (-1, None)


def test_a_caption_that_is_no_text_is_named(tmp_path: Path, picture: Picture) -> None:
    with pytest.raises(ValueError, match="bad caption"):
        _one(tmp_path, png=picture(), txt=b"\xff\xfe")[0]


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_evaluation_counts_each_picture_once_on_any_number_of_ranks(world_size: int) -> None:
    source = digits("test", 25)
    ranks = [list(evaluation_batches(source, 4, rank=rank, world_size=world_size)) for rank in range(world_size)]
    keys = [key for batches in ranks for batch in batches for key in batch.key]
    assert sorted(keys) == sorted(source.keys)
    if world_size == 1:
        assert keys == source.keys


def test_evaluation_stops_at_its_limit() -> None:
    source = digits("test", 25)
    assert [len(b) for b in evaluation_batches(source, 4, limit=10)] == [4, 4, 2]
    assert [len(b) for b in evaluation_batches(source, 100, limit=1000)] == [25]


def _global_states() -> tuple[list[int], str, str]:
    return (
        torch.get_rng_state().tolist(),
        repr(np.random.get_state(legacy=False)),
        repr(random.getstate()),
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_loading_neither_reads_nor_moves_the_global_random_state(workers: int) -> None:
    source = digits("test", 40)

    def load(global_seed: int) -> list[str]:
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)
        random.seed(global_seed)
        before = _global_states()
        order = PositionBatches(n=40, batch_size=8, seed=3, limit=4)
        loader = training_loader(source, order, workers, seed=0)
        keys = [key for _ in range(2) for batch in loader for key in batch.key]
        keys += [key for batch in evaluation_batches(source, 8) for key in batch.key]
        assert _global_states() == before
        return keys

    assert load(0) == load(1)


def test_batches_do_not_depend_on_the_number_of_workers() -> None:
    source = digits("train", 50)

    def load(workers: int) -> list[tuple[tuple[str, ...], torch.Tensor]]:
        order = PositionBatches(n=50, batch_size=16, seed=5, limit=5)
        return [(b.key, b.x) for b in training_loader(source, order, workers, seed=0)]

    assert training_loader(source, PositionBatches(n=50, batch_size=4, seed=0), 2, 0).persistent_workers
    for (key, x), (other_key, other_x) in zip(load(0), load(2), strict=True):
        assert key == other_key
        assert torch.equal(x, other_x)


def test_an_order_for_another_source_is_refused() -> None:
    with pytest.raises(ValueError, match="for 41 samples but the source holds 40"):
        training_loader(digits("test", 40), PositionBatches(n=41, batch_size=8, seed=0), 0, 0)


def test_a_source_travels_to_spawned_workers(shards: IndexedShards) -> None:
    source = pickle.loads(pickle.dumps(ShardImages(shards, 8).shards))
    assert source.read(5) == shards.read(5)


def test_a_shuffled_choice_begins_with_a_fair_one() -> None:
    source = TensorImages(torch.zeros(100, 3, 2, 2), torch.arange(100) // 10, classes=[str(k) for k in range(10)])
    whole, few = (choose_images(source, count, shuffle=True) for count in (None, 30))
    assert sorted(whole.keys) == sorted(source.keys) and whole.keys != source.keys
    assert len({sample.y for sample in map(whole.__getitem__, range(30))}) > 6  # sorted by class it would be three
    assert len(set(few.keys)) == 30 and set(choose_images(source, 30).keys) == set(few.keys)


def test_images_can_be_named() -> None:
    source = TensorImages(torch.rand(4, 3, 2, 2), torch.arange(4), classes=list("abcd"), keys=["p", "q", "r", "s"])
    chosen = images_named(source, ["s", "p"], "ids.txt")
    assert chosen.keys == ["s", "p"] and [chosen[i].y for i in range(2)] == [3, 0]
    with pytest.raises(ValueError, match=r"ids\.txt names 2 of 3 images that 'tensors' does not hold, such as 'x'"):
        images_named(source, ["p", "x", "y"], "ids.txt")
    with pytest.raises(ValueError, match=r"ids\.txt names 'p' twice"):
        images_named(source, ["p", "q", "p"], "ids.txt")
    with pytest.raises(ValueError, match="names no image"):
        images_named(source, [], "ids.txt")


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.rand(3, 3, 2, 2) + 1, torch.zeros(3), r"floats in \[0, 1\]"),
        (torch.zeros(3, 3, 2, 2, dtype=torch.uint8), torch.zeros(3), "uint8"),
        (torch.rand(3, 3, 2, 2), torch.zeros(2), "needs a label"),
        (torch.rand(3, 3, 2, 2), torch.tensor([0, 1, 5]), "label 5"),
    ],
)
def test_tensors_that_are_no_images_are_refused(x: torch.Tensor, y: torch.Tensor, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TensorImages(x, y, classes=["a", "b"])
