"""Noise belongs to the sample."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from modules import noise
from tests.close import assert_close_to_rounding

X = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def splitmix64(z: int) -> int:
    """The finaliser in Python's exact integers."""
    mask = (1 << 64) - 1
    z &= mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_the_hash_equals_exact_integer_arithmetic(values: list[int]) -> None:
    found = noise._mix(torch.tensor(values, dtype=torch.int64)).tolist()
    assert [value & ((1 << 64) - 1) for value in found] == [splitmix64(value) for value in values]


@settings(max_examples=25)
@given(st.permutations(range(8)), st.integers(1, 8))
def test_a_sample_meets_the_same_noise_in_any_order_and_batch(order: list[int], size: int) -> None:
    x = X[:8]
    whole = noise.uniform(x, "a")
    keys = noise.keys_of([f"image-{i}" for i in range(8)])
    with noise.samples(keys, seed=3, draw=1):
        named = noise.normal(x, "a")
    chosen = torch.tensor(order[:size])
    assert torch.equal(noise.uniform(x[chosen], "a"), whole[chosen])
    with noise.samples(keys[chosen], seed=3, draw=1):
        assert_close_to_rounding(noise.normal(x[chosen], "a"), named[chosen])


def test_subset_narrows_the_names_and_can_go_back_to_an_earlier_scope() -> None:
    keys = noise.keys_of([f"{i}" for i in range(64)])
    with noise.samples(keys):
        whole = noise.uniform(X, "a")
        outer = noise.scope()
        with noise.subset(torch.tensor([5, 7])):
            assert torch.equal(noise.uniform(X[[5, 7]], "a"), whole[[5, 7]])
            with noise.back_to(outer), noise.subset(torch.tensor([9])):
                assert torch.equal(noise.uniform(X[[9]], "a"), whole[[9]])
            with noise.back_to(None), noise.subset(torch.tensor([0])):
                unnamed = noise.uniform(X[[9]], "a")
                assert not torch.equal(unnamed, whole[[9]])
    assert torch.equal(unnamed, noise.uniform(X[[9]], "a"))


@pytest.mark.parametrize("named", [True, False])
def test_rows_of_the_same_sample_are_told_apart_by_their_lanes(named: bool) -> None:
    keys = noise.keys_of(["a", "b", "a", "b"])
    x, lane = X[[0, 1, 0, 1]], torch.tensor([0, 0, 3, 3])
    with noise.samples(keys) if named else nullcontext():
        plain = noise.uniform(x, "a")
        with noise.lanes(x, lane):
            both = noise.uniform(x, "a")
        with noise.lanes(x, torch.zeros(4, dtype=torch.long)):
            assert torch.equal(noise.uniform(x, "a"), plain)
        with noise.subset(torch.tensor([3])), noise.lanes(x[3:], lane[3:]):
            assert torch.equal(noise.uniform(x[3:], "a"), both[3:])
    assert torch.equal(both[:2], plain[:2]) and torch.equal(plain[:2], plain[2:])
    assert (both[2:] != plain[2:]).float().mean() > 0.99


def test_seed_draw_and_stream_each_give_other_noise() -> None:
    keys = noise.keys_of([f"{i}" for i in range(64)])

    def drawn(seed: int, draw: int, stream: str) -> torch.Tensor:
        with noise.samples(keys, seed=seed, draw=draw):
            return noise.uniform(X, stream)

    base = drawn(0, 0, "a")
    assert torch.equal(base, drawn(0, 0, "a"))
    for other in (drawn(1, 0, "a"), drawn(0, 1, "a"), drawn(0, 0, "b")):
        assert (other != base).float().mean() > 0.99


def test_uniform_and_normal_have_their_distributions() -> None:
    u = noise.uniform(X, "u", (500,)).double().flatten().numpy()
    n = noise.normal(X, "n", (500,)).double().flatten().numpy()
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    assert stats.kstest(n, "norm").pvalue > 1e-3


def test_rows_of_different_samples_are_uncorrelated() -> None:
    rows = noise.normal(X, "rows", (4000,))
    correlation = torch.corrcoef(rows) - torch.eye(len(X))
    assert correlation.abs().max() < 6 / 4000**0.5


def test_integers_cover_their_range_and_nothing_else() -> None:
    values = noise.integers(X, "i", 900, 999, (200,))
    assert set(values.flatten().tolist()) == set(range(900, 1000))


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = noise.normal(X, "a")
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(1)
    assert torch.equal(first, noise.normal(X, "a"))


def test_a_batch_of_another_size_than_the_named_samples_is_refused() -> None:
    with noise.samples(noise.keys_of(["a", "b"])), pytest.raises(ValueError, match="noise.subset"):
        noise.uniform(X, "a")


def test_pixel_keys_tell_images_apart() -> None:
    x = torch.rand(500, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    assert len(set(noise.keys_of_pixels(x).tolist())) == 500
    nudged = x.clone()
    nudged[:, 0, 0, 0] += 1 / 255
    assert (noise.keys_of_pixels(x) != noise.keys_of_pixels(nudged)).all()
