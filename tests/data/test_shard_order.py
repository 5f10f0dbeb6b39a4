from __future__ import annotations

import itertools
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.permutation import keys_of, permute
from data.plan import PositionBatches
from data.shard_order import ShardOrder

seeds = st.integers(-(2**70), 2**70)
sizes = st.lists(st.integers(0, 25), min_size=1, max_size=12).filter(any)


@given(seed=seeds, epoch=st.integers(0, 2**40), counts=sizes, window=st.integers(1, 15))
@settings(max_examples=100)
def test_every_epoch_visits_each_index_once(seed: int, epoch: int, counts: list[int], window: int) -> None:
    n = sum(counts)
    assert sorted(ShardOrder(counts, window).indices(seed, epoch * n, n).tolist()) == list(range(n))


@given(seed=seeds, counts=sizes, window=st.integers(1, 15), start=st.integers(0, 500), count=st.integers(0, 60))
@settings(max_examples=60)
def test_a_range_of_positions_equals_its_positions_one_by_one(
    seed: int, counts: list[int], window: int, start: int, count: int
) -> None:
    order = ShardOrder(counts, window)
    one_by_one = [int(order.indices(seed, position, 1)[0]) for position in range(start, start + count)]
    assert order.indices(seed, start, count).tolist() == one_by_one


def _permuted(seed: int, n: int, *counters: int) -> list[int]:
    columns = [np.full(n, counter, dtype=np.uint64) for counter in counters]
    return permute(np.arange(n, dtype=np.uint64), keys_of(seed, *columns), n).astype(int).tolist()


def _slow_epoch(seed: int, epoch: int, counts: list[int], window: int) -> list[int]:
    """One epoch written out: shards on a circle, chunks into slots, slots mixed."""
    line = _permuted(seed, len(counts), 1, epoch, 0)
    window = min(window, len(counts))
    found = []
    for slot in range(len(line)):
        mixed = []
        for j in range(window):
            shard = line[(slot - j) % len(line)]
            c, start = counts[shard], sum(counts[:shard])
            inner = _permuted(seed, c, 3, epoch, shard) if c else []
            mixed += [start + i for i in inner[c * j // window : c * (j + 1) // window]]
        found += [mixed[i] for i in _permuted(seed, len(mixed), 2, epoch, slot)] if mixed else []
    return found


@given(seed=seeds, epoch=st.integers(0, 99), counts=sizes, window=st.integers(1, 15))
@settings(max_examples=60)
def test_the_order_is_that_of_a_slow_reference(seed: int, epoch: int, counts: list[int], window: int) -> None:
    n = sum(counts)
    assert ShardOrder(counts, window).indices(seed, epoch * n, n).tolist() == _slow_epoch(seed, epoch, counts, window)


def test_the_order_is_fixed_forever() -> None:
    # A change here would silently give resumed runs another order.
    assert ShardOrder([4, 3, 5], 2).indices(7, 0, 14).tolist() == [5, 6, 2, 1, 3, 0, 9, 8, 10, 4, 7, 11, 1, 7]


@given(seed=seeds, counts=sizes, window=st.integers(1, 6))
@settings(max_examples=60)
def test_few_shards_are_open_at_a_time_and_each_stays_until_it_is_done(
    seed: int, counts: list[int], window: int
) -> None:
    order = ShardOrder(counts, window)
    shard_of = np.repeat(np.arange(len(counts)), counts)
    epoch = shard_of[order.indices(seed, 0, order.n)]
    for position in range(order.n):
        assert epoch[position] in order.shards_at(seed, position)
        assert len(order.shards_at(seed, position)) <= window
    if window == 1:
        assert len([shard for shard, _ in itertools.groupby(epoch)]) == len(set(epoch))


def test_what_comes_next_is_known_across_the_edge_of_an_epoch() -> None:
    order = ShardOrder([10] * 6, 2)
    shard_of = np.repeat(np.arange(6), 10)
    for position in range(0, 120, 7):
        known = order.shards_at(5, position, ahead=2)
        assert known[:2] == order.shards_at(5, position)
        assert set(shard_of[order.indices(5, position, 10)]) <= set(known)


def test_samples_of_a_window_are_mixed_and_epochs_differ() -> None:
    counts = [100] * 40
    order = ShardOrder(counts, 8)
    indices = order.indices(0, 0, 4000)
    per_batch = [len(set((indices[i : i + 100] // 100).tolist())) for i in range(0, 4000, 100)]
    assert min(per_batch) >= 7  # each hundred samples come from nearly all eight open shards
    orders = {tuple(order.indices(seed, epoch * 4000, 50)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_forty_million_samples_in_as_many_thousand_shards_start_at_once() -> None:
    order = ShardOrder(np.full(40_000, 1000), 16)
    tracemalloc.start()
    indices = order.indices(3, 5 * order.n + 36_000_000, 512)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40_000_000  # and eight times as much where every sample is put in order
    assert len(set(indices.tolist())) == 512


@given(counts=sizes, window=st.integers(1, 5), data=st.data())
@settings(max_examples=40)
def test_some_samples_have_an_order_of_their_own(counts: list[int], window: int, data: st.DataObject) -> None:
    n = sum(counts)
    chosen = sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1)))
    order = ShardOrder(counts, window).of_some(np.array(chosen))
    shard_of = np.repeat(np.arange(len(counts)), counts)
    assert order.counts.tolist() == np.bincount(shard_of[chosen], minlength=len(counts)).tolist()
    assert sorted(order.indices(1, 0, order.n).tolist()) == list(range(len(chosen)))


def test_ranks_and_restarts_see_one_stream() -> None:
    order = ShardOrder([5, 9, 3, 7], 2)
    whole = order.indices(2, 0, 60).tolist()
    ranks = [PositionBatches(n=24, batch_size=6, seed=2, rank=r, world_size=2, shuffle=order, limit=4) for r in (0, 1)]
    first = [i for step in zip(*ranks, strict=True) for part in step for i in part]
    rest = PositionBatches(n=24, batch_size=12, seed=2, start_position=24, shuffle=pickle.loads(pickle.dumps(order)))
    assert [*first, *next(iter(rest))] == whole[:36]
    with pytest.raises(ValueError, match="order of shards is for 24 samples but the source holds 25"):
        PositionBatches(n=25, batch_size=6, seed=2, shuffle=order)


@pytest.mark.parametrize(
    ("counts", "window", "said"), [([3], 0, "window of 0 shards"), ([0, 0], 2, "one sample"), ([], 2, "one sample")]
)
def test_an_order_of_nothing_is_refused(counts: list[int], window: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ShardOrder(counts, window)
