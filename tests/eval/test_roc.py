"""ROC curves and areas: against sklearn and pair counting, at their ends, and how often the interval holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from eval.metrics import wilson
from eval.roc import area, roc

few = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


@settings(max_examples=60)
@given(few, few)
def test_curve_and_area_are_sklearns_and_those_of_counted_pairs(clean: list[float], attacked: list[float]) -> None:
    size = max(len(clean), len(attacked))
    labels = [0] * len(clean) + [1] * len(attacked)
    pairs = [(a > c) + 0.5 * (a == c) for a in attacked for c in clean]
    curve = roc(clean, attacked)
    trapezoids = np.diff(curve.false_alarms) * (curve.caught[1:] + curve.caught[:-1]) / 2
    expected = roc_auc_score(labels, clean + attacked)
    assert trapezoids.sum() == pytest.approx(expected) == pytest.approx(np.mean(pairs))
    x, y, _ = roc_curve(labels, clean + attacked, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_alarms, x)
    np.testing.assert_allclose(curve.caught, y)
    if len(clean) == size:  # every image stands on the clean side
        found = area(clean, [*attacked, *[None] * (size - len(attacked))])
        assert found.value == pytest.approx(expected)
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_perfect_reversed_and_constant_detectors() -> None:
    low, high = [float(i) for i in range(40)], [100.0 + i for i in range(40)]
    assert area(low, high).value == 1 and area(high, low).value == 0
    constant = area([2.0] * 40, [2.0] * 40)
    assert constant.value == 0.5 and constant.low < 0.45 and constant.high > 0.55


def test_no_interval_claims_certainty() -> None:
    """Where nothing overlaps the estimated variance is zero; so many images can say no more than Wilson's."""
    found = area([0.0] * 30, [1.0] * 10 + [None] * 20)
    assert (found.low, found.high) == wilson(10, 10)


def test_the_variance_of_independent_sides_is_delongs() -> None:
    """With the sides on different images, the sum over images is DeLong's two terms."""
    rng = np.random.default_rng(0)
    clean, attacked = rng.normal(size=400), rng.normal(size=400) + 0.8
    v10 = np.array([np.mean(a > clean) for a in attacked])
    v01 = np.array([np.mean(attacked > c) for c in clean])
    delong = v10.var(ddof=1) / 400 + v01.var(ddof=1) / 400
    found = area(list(clean), list(attacked))
    value = v10.mean()
    half = (np.log(found.high / (1 - found.high)) - np.log(found.low / (1 - found.low))) / 2
    assert (half * value * (1 - value) / 1.959964) ** 2 == pytest.approx(delong, rel=0.15)


@pytest.mark.parametrize("together", [0.0, 0.9])
@pytest.mark.parametrize("gap", [0.0, 1.0, 2.5])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(gap: float, together: float) -> None:
    """Clean and attacked scores of an image go together; the difference of two images' scores has variance 2."""
    from scipy.stats import norm

    rng, truth, held = np.random.default_rng(1), norm.cdf(gap / 2**0.5), []
    for _ in range(600):
        clean = rng.normal(size=100)
        own = together * clean + (1 - together**2) ** 0.5 * rng.normal(size=100)
        found = area(list(clean), list(own + gap))
        held.append(found.low <= truth <= found.high)
    assert 0.92 <= np.mean(held) <= 0.98


def test_forgetting_that_the_images_are_the_same_would_be_found() -> None:
    """With scores that go together the interval is narrower than for unrelated sides."""
    rng = np.random.default_rng(2)
    clean = rng.normal(size=200)
    paired = area(list(clean), list(clean + 0.3))
    unpaired = area(list(clean), list(rng.permutation(clean) + 0.3))
    assert paired.value == pytest.approx(unpaired.value)
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)


def test_what_makes_no_curve_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="3 clean and 2 attacked scores are not of the same images"):
        area([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="2 clean and 0 attacked scores make no ROC curve"):
        area([1.0, 2.0], [None, None])
    with pytest.raises(ValueError, match="0 clean and 1 attacked"):
        roc([], [1.0])
