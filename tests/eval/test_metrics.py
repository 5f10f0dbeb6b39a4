from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import Z95, wilson

counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(("k", "n", "low", "high"), [(726, 1000, 0.6975, 0.7527), (0, 16, 0.0, 0.1936)])
def test_known_intervals_come_out(k: int, n: int, low: float, high: float) -> None:
    assert wilson(k, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("n", "points"),
    [(100, 9.62), (256, 6.08), (500, 4.37), (1000, 3.09), (1824, 2.29), (5000, 1.39)],
)
def test_half_width_at_one_half(n: int, points: float) -> None:
    low, high = wilson(n // 2, n)
    assert 50 * (high - low) == pytest.approx(points, abs=0.006)


def test_nothing_tried_means_nothing_known() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@given(counts)
def test_ends_solve_the_score_equation(pair: tuple[int, int]) -> None:
    k, n = pair
    for end in wilson(k, n):
        assert abs(k / n - end) == pytest.approx(Z95 * math.sqrt(end * (1 - end) / n), abs=1e-7)


@given(counts)
def test_interval_holds_the_share_and_mirrors(pair: tuple[int, int]) -> None:
    k, n = pair
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert wilson(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (0, -1)])
def test_impossible_counts_are_refused(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="impossible"):
        wilson(k, n)
