from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.plan import PositionBatches, sample_index, sample_indices

seeds = st.integers(-(2**70), 2**70)


@given(seed=seeds, epoch=st.integers(0, 2**40), n=st.integers(1, 700))
@settings(max_examples=60)
def test_every_epoch_visits_each_index_once(seed: int, epoch: int, n: int) -> None:
    assert sorted(sample_indices(seed, epoch * n, n, n).tolist()) == list(range(n))


@given(seed=seeds, start=st.integers(0, 10**6), count=st.integers(0, 40), n=st.integers(1, 90))
@settings(max_examples=60)
def test_a_range_of_positions_equals_its_positions_one_by_one(seed: int, start: int, count: int, n: int) -> None:
    one_by_one = [sample_index(seed, position, n) for position in range(start, start + count)]
    assert sample_indices(seed, start, count, n).tolist() == one_by_one


def test_a_billion_samples_need_no_table() -> None:
    n = 10**9 + 7
    indices = sample_indices(3, 5 * n - 2000, 4000, n)
    assert indices.dtype == np.int64
    assert indices.min() >= 0
    assert indices.max() < n
    assert len(set(indices[:2000].tolist())) == 2000  # the end of one epoch
    assert len(set(indices[2000:].tolist())) == 2000  # the start of the next


def test_orders_differ_between_epochs_and_seeds() -> None:
    orders = {tuple(sample_indices(seed, epoch * 50, 50, 50)) for seed in range(8) for epoch in range(8)}
    assert len(orders) == 64


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7, 64, 100])
def test_each_position_holds_each_index_equally_often(n: int) -> None:
    epochs = 300 * n
    table = sample_indices(11, 0, epochs * n, n).reshape(epochs, n)
    counts = np.stack([np.bincount(table[:, position], minlength=n) for position in range(n)])
    # chi-square with (n - 1)^2 degrees of freedom, within six standard deviations
    chi2, freedom = ((counts - 300) ** 2 / 300).sum(), (n - 1) ** 2
    assert chi2 < freedom + 6 * np.sqrt(2 * freedom) + 6


def test_every_order_of_three_occurs() -> None:
    table = sample_indices(0, 0, 3 * 3000, 3).reshape(-1, 3)
    counts = Counter(map(tuple, table.tolist()))
    assert set(counts) == set(itertools.permutations(range(3)))
    assert min(counts.values()) > 300


def test_neighbours_in_the_source_do_not_stay_neighbours() -> None:
    order = sample_indices(0, 0, 5000, 5000)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.06
    assert abs(np.corrcoef(order, np.arange(5000))[0, 1]) < 0.06


def _slow_index(seed: int, position: int, n: int) -> int:
    """The same permutation in unbounded Python integers, one sample at a time."""
    word = 2**64

    def mix(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % word
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % word
        return z ^ (z >> 31)

    epoch, value = divmod(position, n)
    key = mix(mix(seed % word) ^ ((epoch + 1) * 0x9E3779B97F4A7C15 % word))
    half = 1
    while 4**half < n:
        half += 1
    while True:
        left, right = value >> half, value % 2**half
        for step in range(8):
            left, right = right, left ^ (mix(right ^ mix((key + step) % word)) % 2**half)
        value = left * 2**half + right
        if value < n:
            return value


@given(seed=seeds, position=st.integers(0, 2**45), n=st.integers(1, 2**40))
@settings(max_examples=60)
def test_the_order_is_that_of_a_slow_reference(seed: int, position: int, n: int) -> None:
    assert sample_index(seed, position, n) == _slow_index(seed, position, n)


def test_the_order_is_fixed_forever() -> None:
    # A change here would silently give resumed runs another order.
    assert sample_indices(7, 0, 12, 10).tolist() == [2, 4, 0, 9, 1, 6, 8, 5, 7, 3, 2, 4]


@given(
    n=st.integers(1, 60),
    share=st.integers(1, 5),
    start=st.integers(0, 500),
    seed=st.integers(0, 2**32),
    shuffle=st.booleans(),
)
@settings(max_examples=50)
def test_the_ranks_together_see_the_same_batches_for_any_world_size(
    n: int, share: int, start: int, seed: int, shuffle: bool
) -> None:
    batch_size = 12 * share

    def batches(world_size: int) -> list[list[int]]:
        ranks = [
            PositionBatches(
                n=n,
                batch_size=batch_size,
                seed=seed,
                start_position=start,
                rank=rank,
                world_size=world_size,
                shuffle=shuffle,
                limit=3,
            )
            for rank in range(world_size)
        ]
        steps = list(zip(*ranks, strict=True))
        assert all(len(part) == batch_size // world_size for step in steps for part in step)
        return [sorted(i for part in step for i in part) for step in steps]

    assert batches(1) == batches(2) == batches(3) == batches(4)


def test_a_run_goes_on_where_it_stopped_with_another_batch_size_and_world() -> None:
    whole = list(itertools.chain(*PositionBatches(n=10, batch_size=24, seed=1, limit=2)))
    first = PositionBatches(n=10, batch_size=8, seed=1, limit=3)
    resumed = [
        PositionBatches(
            n=10,
            batch_size=6,
            seed=1,
            start_position=first.position_after(3),
            rank=rank,
            world_size=2,
            limit=4,
        )
        for rank in range(2)
    ]
    pieces = [*first, *itertools.chain(*zip(*resumed, strict=True))]
    assert list(itertools.chain(*pieces)) == whole


def test_without_shuffling_the_source_order_repeats() -> None:
    batches = PositionBatches(n=3, batch_size=4, seed=9, shuffle=False, limit=2)
    assert list(batches) == [[0, 1, 2, 0], [1, 2, 0, 1]]


def test_a_limit_is_the_length_and_without_it_the_stream_never_ends() -> None:
    assert len(PositionBatches(n=3, batch_size=2, seed=0, limit=5)) == 5
    endless = PositionBatches(n=3, batch_size=2, seed=0)
    with pytest.raises(TypeError, match="no length"):
        len(endless)
    assert sum(1 for _ in itertools.islice(endless, 1000)) == 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"batch_size": 10, "world_size": 4},
            "batch size of 10 .* 4 processes; choose a multiple of 4",
        ),
        ({"batch_size": 0}, "batch size of 0"),
        ({"rank": 2, "world_size": 2}, r"rank 2 lies outside 0\.\.1"),
        ({"n": 0}, "holds 0 samples"),
        ({"start_position": -1}, "position -1 is negative"),
        ({"limit": -1}, "limit of -1"),
    ],
)
def test_what_cannot_be_shared_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PositionBatches(**{"n": 9, "batch_size": 4, "seed": 0, **change})
