from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data.permutation import keys_of, permute


@given(seed=st.integers(-(2**70), 2**70), sizes=st.lists(st.integers(1, 90), min_size=1, max_size=6))
@settings(max_examples=60)
def test_permutations_of_many_sizes_can_be_asked_for_at_once(seed: int, sizes: list[int]) -> None:
    n = np.repeat(np.array(sizes, dtype=np.uint64), sizes)
    value = np.concatenate([np.arange(size, dtype=np.uint64) for size in sizes])
    which = np.repeat(np.arange(len(sizes), dtype=np.uint64), sizes)
    key = keys_of(seed, which)
    together = permute(value, key, n)
    assert (together == [int(permute(value[i : i + 1], key[i : i + 1], int(n[i]))[0]) for i in range(len(n))]).all()
    for number, size in enumerate(sizes):
        assert sorted(together[which == number].tolist()) == list(range(size))


def test_keys_tell_seeds_counters_and_their_places_apart() -> None:
    counters = np.arange(50, dtype=np.uint64)
    zero = np.zeros_like(counters)
    keys = np.concatenate(
        [keys_of(s, *c) for s in (0, 1, -1) for c in ((counters,), (counters, zero), (zero, counters))]
    )
    # (0, 0) stands in two of the three lists of each seed
    assert len(set(keys.tolist())) == len(keys) - 3
