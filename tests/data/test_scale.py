"""Uneven and damaged shards: nothing hangs, nothing good is lost, and what is bad is counted exactly."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from data.catalog import open_images
from data.images import training_loader
from data.plan import PositionBatches
from data.reading import Reading
from data.shard_order import ShardOrder
from data.shards import IndexedShards, write_shards
from data.source import ImageSource

Picture = Callable[..., bytes]
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes:UserWarning")
UNEVEN = (1, 30, 7, 19, 2, 24, 13)  # 96 samples


def _shards(folder: Path, counts: tuple[int, ...], picture: Picture, bad: dict[str, bytes] | None = None) -> str:
    """Tars of so many samples; ``bad`` are other contents by key."""
    folder.mkdir()
    content = picture(0)
    for shard, count in enumerate(counts):
        keys = [f"s{shard:02d}{i:03d}" for i in range(count)]
        samples = ({"__key__": key, "png": (bad or {}).get(key, content), "cls": "0"} for key in keys)
        (path,) = write_shards(folder / "new", samples, per_shard=1000)
        path.rename(folder / f"{shard}.tar")
        for file in (folder / "new").iterdir():
            file.unlink()
        (folder / "new").rmdir()
    return f"{folder}/{{0..{len(counts) - 1}}}.tar"


def _epochs(source: ImageSource, *, batch: int, world: int, workers: int, limit: int) -> list[list[str]]:
    """The keys of each step, all ranks together, read by real worker processes."""
    ranks: list[Iterator[Any]] = []
    for rank in range(world):
        order = PositionBatches(
            n=len(source), batch_size=batch, seed=5, rank=rank, world_size=world, shuffle=source.shuffle, limit=limit
        )
        loader: DataLoader[Any] = training_loader(source, order, workers, seed=0)
        ranks.append(iter(loader))
    return [[key for part in step for key in part.key] for step in zip(*ranks, strict=True)]


@pytest.mark.parametrize("order", ["samples", "shards"])
def test_seven_uneven_shards_on_two_ranks_of_three_workers(order: Any, tmp_path: Path, picture: Picture) -> None:
    where = _shards(tmp_path / "x", UNEVEN, picture)
    source = open_images(where, "train", 8, reading=Reading(order=order, window=2))
    assert isinstance(source.shuffle, ShardOrder) == (order == "shards")
    steps = _epochs(source, batch=12, world=2, workers=3, limit=3 * 96 // 12)
    assert len(steps) == 24 and all(len(step) == 12 for step in steps)
    for epoch in range(3):
        keys = [key for step in steps[8 * epoch : 8 * epoch + 8] for key in step]
        assert sorted(keys) == sorted(source.keys)
    # the same stream on one rank that reads by itself, from the middle on
    alone = PositionBatches(n=96, batch_size=12, seed=5, start_position=120, shuffle=source.shuffle, limit=4)
    rest = [sorted(batch.key) for batch in training_loader(source, alone, 0, seed=0)]
    assert rest == [sorted(step) for step in steps[10:14]]


def test_one_percent_of_damage_loses_no_good_sample(tmp_path: Path, picture: Picture) -> None:
    whole = picture(0)
    bad = {
        "s00003": b"<html>404</html>",
        "s41002": b"",
        "s77007": whole[: len(whole) // 2],
        "s98000": b"\xff\xd8\xff\xe0 not a jpeg",
    }
    where = _shards(tmp_path / "x", (8,) * 100, picture, bad)
    cut = tmp_path / "x/50.tar"
    content = cut.read_bytes()
    cut.write_bytes(content[: content.index(b"s50006.png") + 600])  # its last two samples are lost
    source = open_images(where, "train", 8, skip_bad=True, reading=Reading(max_bad=0.01))
    index = source.shards  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(index, IndexedShards) and index.rejected == {"damaged shard": 1} and len(source) == 798
    steps = _epochs(source, batch=42, world=1, workers=2, limit=19)  # one epoch
    seen = Counter(key for step in steps for key in step)
    lost = {"s50006", "s50007", *bad}
    assert set(seen) == {f"s{s:02d}{i:03d}" for s in range(100) for i in range(8)} - lost
    assert seen.total() == 798  # the next good one takes a bad one's place
    assert source.bad() == {"empty": 1, "not an image": 1, "undecodable": 2}


def test_more_damage_than_allowed_stops_the_run_in_one_line(tmp_path: Path, picture: Picture) -> None:
    bad = {f"s{shard:02d}000": b"no picture" for shard in range(4)}
    where = _shards(tmp_path / "x", (25,) * 4, picture, bad)
    source = open_images(where, "train", 8, skip_bad=True, reading=Reading(max_bad=0.03))
    with pytest.raises(ValueError) as caught:
        _epochs(source, batch=10, world=1, workers=1, limit=10)
    told = "4 of 100 images of 'x' are bad (4 not an image), more than data.max_bad = 0.03 allows; "
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value)
    del caught
    gc.collect()  # the worker of a loader that failed is waited for
    allowed = open_images(where, "train", 8, skip_bad=True, reading=Reading(max_bad=0.04))
    assert len(_epochs(allowed, batch=10, world=1, workers=0, limit=10)) == 10


def test_samples_lost_with_damaged_shards_count_where_an_index_says_how_many_there_were(
    tmp_path: Path, picture: Picture
) -> None:
    content = picture(0)
    samples = ({"__key__": f"s{i:03d}", "png": content} for i in range(100))
    paths = write_shards(tmp_path / "x", samples, per_shard=50)
    paths[1].write_bytes(paths[1].read_bytes()[: paths[1].stat().st_size // 2])
    with pytest.raises(ValueError, match=r"(\d+) of 100 images of 'x' are bad \(\1 lost with damaged shards\)"):
        open_images(f"{tmp_path}/x/{{0..1}}.tar", "train", 8, skip_bad=True, reading=Reading(max_bad=0.2))


def test_keys_stay_packed_in_a_source(tmp_path: Path, picture: Picture) -> None:
    where = _shards(tmp_path / "x", (200,), picture)
    source = open_images(where, "train", 8)
    assert not isinstance(source.keys, list) and source.keys[7] == "s00007"
    assert torch.equal(source[7].x, source[8].x)
