from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import xlogy
from scipy.stats import beta, binom, binomtest, chi2

from eval.metrics import wilson
from eval.stats import (
    Estimate,
    area_under_curve,
    average_of,
    clopper_pearson,
    confidence_sequence,
    mcnemar,
    paired_difference,
)

Interval = Callable[[int, int], tuple[float, float]]

counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
flags = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200)
SHARES = np.linspace(0.005, 0.995, 67)


def toss(rng: np.random.Generator, n: int, p: float) -> list[bool]:
    return (rng.random(n) < p).tolist()


def exact_coverage(interval: Interval, n: int, p: float) -> float:
    """Probability that the interval holds p, summed over all counts."""
    held = [low <= p <= high for low, high in (interval(k, n) for k in range(n + 1))]
    return float(binom.pmf(np.arange(n + 1), n, p)[held].sum())


def exact_anytime_miss(interval: Callable[..., tuple[float, float]], n_max: int, *chances: float) -> float:
    """Probability that the interval misses the mean at any n up to ``n_max``: mass that leaves the band, step by step.

    chances: of an image to count 0, 1 / k, ..., 1; two of them for images that are right or wrong.
    """
    k = len(chances) - 1
    p = sum(i * chance for i, chance in enumerate(chances)) / k
    mass, missed = np.ones(1), 0.0
    lowest, highest = 0, 0  # sums at this n, in units of 1 / k, whose interval holds p
    for n in range(1, n_max + 1):
        mass = np.convolve(mass, chances)
        while interval(lowest / k, n)[1] < p:
            lowest += 1
        while highest < k * n and interval((highest + 1) / k, n)[0] <= p:
            highest += 1
        missed += mass[:lowest].sum() + mass[highest + 1 :].sum()
        mass[:lowest], mass[highest + 1 :] = 0.0, 0.0
    return float(missed)


@pytest.mark.parametrize("n", [1, 7, 40, 150])
def test_clopper_pearson_covers_at_least_what_it_says_at_every_share(n: int) -> None:
    assert min(exact_coverage(clopper_pearson, n, p) for p in SHARES) >= 0.95


def test_a_wilson_interval_covers_what_it_says_on_average_and_dips_below_at_single_shares() -> None:
    coverage = [exact_coverage(wilson, 150, p) for p in SHARES]
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.005)
    assert 0.88 < min(coverage) < 0.945  # the reason why clopper_pearson exists


@given(counts)
def test_clopper_pearson_agrees_with_another_implementation(pair: tuple[int, int]) -> None:
    k, n = pair
    told = binomtest(k, n).proportion_ci(0.95, method="exact")
    assert clopper_pearson(k, n) == pytest.approx((told.low, told.high), abs=1e-9)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"), [(500, 1000, 0.4424, 0.5576), (300, 1000, 0.2490, 0.3546), (0, 16, 0.0, 0.2667)]
)
def test_known_confidence_sequences_come_out(k: int, n: int, low: float, high: float) -> None:
    assert confidence_sequence(k, n) == pytest.approx((low, high), abs=5e-5)


@given(counts)
def test_the_ends_of_a_confidence_sequence_are_where_the_mixture_wins_by_one_over_alpha(pair: tuple[int, int]) -> None:
    k, n = pair
    for end in confidence_sequence(k, n):
        if 0 < end < 1:
            # mixture over likelihood = density of the prior over density of the posterior, here at the end itself
            ratio = beta.logpdf(end, 0.5, 0.5) - beta.logpdf(end, k + 0.5, n - k + 0.5)
            assert ratio == pytest.approx(np.log(20), abs=1e-5)


@pytest.mark.parametrize("p", [0.05, 0.3, 0.9])
def test_a_confidence_sequence_misses_ever_no_more_often_than_alpha(p: float) -> None:
    missed = exact_anytime_miss(confidence_sequence, 1500, 1 - p, p)
    assert 0.02 < missed <= 0.05


@pytest.mark.parametrize("chances", [(0.3, 0.4, 0.3), (0.05, 0.15, 0.2, 0.6)])
def test_a_confidence_sequence_of_shares_misses_even_less_often(chances: tuple[float, ...]) -> None:
    assert exact_anytime_miss(confidence_sequence, 400, *chances) < 0.03


def test_intervals_for_one_look_miss_far_too_often_when_looked_at_always() -> None:
    assert exact_anytime_miss(lambda k, n: wilson(int(k), n), 400, 0.7, 0.3) > 0.25
    assert exact_anytime_miss(clopper_pearson, 400, 0.7, 0.3) > 0.15


@pytest.mark.parametrize("interval", [clopper_pearson, confidence_sequence])
@given(pair=counts)
def test_an_interval_holds_the_share_mirrors_and_grows_with_confidence(
    interval: Callable[..., tuple[float, float]], pair: tuple[int, int]
) -> None:
    k, n = pair
    low, high = interval(k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert interval(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    surer_low, surer_high = interval(k, n, 0.01)
    assert surer_low <= low and high <= surer_high


@pytest.mark.parametrize("interval", [wilson, clopper_pearson, confidence_sequence])
@given(pair=counts)
def test_another_success_never_lowers_an_interval(interval: Interval, pair: tuple[int, int]) -> None:
    k, n = pair
    if k < n:
        assert all(more >= less for more, less in zip(interval(k + 1, n), interval(k, n), strict=True))


@given(counts)
def test_leave_to_look_at_any_time_costs_width(pair: tuple[int, int]) -> None:
    once, always = clopper_pearson(*pair), confidence_sequence(*pair)
    if pair[1] >= 10:
        assert always[0] <= once[0] and once[1] <= always[1]


@pytest.mark.parametrize(("k", "n"), [(1, 10**9), (5 * 10**8, 10**9), (10**9, 10**9)])
def test_a_confidence_sequence_is_stable_at_huge_counts(k: int, n: int) -> None:
    low, high = confidence_sequence(k, n)
    assert 0 < low <= k / n <= high <= 1
    assert high - low < 3e-4


@pytest.mark.parametrize("interval", [clopper_pearson, confidence_sequence])
def test_nothing_tried_means_nothing_known(interval: Interval) -> None:
    assert interval(0, 0) == (0.0, 1.0)


@given(flags)
def test_mcnemar_agrees_with_a_binomial_test_of_the_images_that_differ(pairs: list[tuple[bool, bool]]) -> None:
    found = mcnemar([a for a, _ in pairs], [b for _, b in pairs])
    assert found.b == sum(a and not b for a, b in pairs)
    assert found.c == sum(b and not a for a, b in pairs)
    differing = found.b + found.c
    assert found.p == pytest.approx(binomtest(found.b, differing).pvalue if differing else 1.0)


def test_mcnemar_by_hand() -> None:
    a, b = [True] * 6 + [False], [False] * 6 + [False]
    assert mcnemar(a, b) == pytest.approx((6, 0, 2 / 64))


def test_mcnemar_finds_too_much_in_pure_chance_no_more_often_than_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [mcnemar(toss(rng, 60, 0.6), toss(rng, 60, 0.6)).p <= 0.05 for _ in range(1000)]
    assert 0.005 < np.mean(found) <= 0.05


def difference_of(both: int, first: int, second: int, neither: int, alpha: float = 0.05) -> Estimate:
    """From the numbers of images that both, only the first, only the second, or neither got right."""
    a = [True] * (both + first) + [False] * (second + neither)
    b = [True] * both + [False] * first + [True] * second + [False] * neither
    return paired_difference(a, b, alpha=alpha)


def exact_paired_coverage(n: int, differing: float, share: float) -> float:
    """Probability that the interval holds the true difference, summed over all counts worth mentioning.

    differing: chance that only one of the two is right; share: of these images, those that the first got right.
    """
    truth, covered = differing * (2 * share - 1), 0.0
    for m in range(int(binom.ppf(1 - 1e-5, n, differing)) + 1):
        for first in range(m + 1):
            _, low, high = difference_of(n - m, first, m - first, 0)
            covered += float(binom.pmf(m, n, differing) * binom.pmf(first, m, share)) * (low <= truth <= high)
    return covered


@pytest.mark.parametrize(
    ("n", "differing"), [(10, 0.01), (10, 0.2), (20, 0.02), (20, 0.5), (50, 0.02), (50, 0.2), (200, 0.005), (200, 0.02)]
)
@pytest.mark.parametrize("share", [1.0, 0.75, 0.5])
def test_the_interval_of_a_paired_difference_holds_the_true_one_as_often_as_it_says(
    n: int, differing: float, share: float
) -> None:
    assert exact_paired_coverage(n, differing, share) >= 0.93


@pytest.mark.parametrize("n", [1, 20, 50, 10_000])
def test_two_classifiers_that_agree_on_every_image_may_still_differ(n: int) -> None:
    for found in (difference_of(n, 0, 0, 0), difference_of(0, 0, 0, n)):
        assert found == pytest.approx((0, -(1.96**2) / (n + 1.96**2), 1.96**2 / (n + 1.96**2)), rel=1e-4)


def test_a_published_interval_of_a_paired_difference_comes_out() -> None:
    """Airway hyperresponsiveness of 21 children before and after a transplant (Fagerland et al. 2014, Tango's row)."""
    assert difference_of(1, 1, 7, 12) == pytest.approx((-0.286, -0.517, -0.026), abs=5e-4)


def likeliest(b: int, c: int, n: int, difference: float) -> float:
    """Share of images that only the second got right, where the trinomial likelihood of a difference is largest."""
    low, high = max(0.0, -difference), (1 - difference) / 2
    for _ in range(60):  # a grid that closes in on the maximum
        grid = np.linspace(low, high, 21)
        shares = np.stack([grid + difference, grid, 1 - 2 * grid - difference]).clip(0, 1)
        best = int(xlogy(np.array([[b], [c], [n - b - c]]), shares).sum(axis=0).argmax())
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 20)]
    return float((low + high) / 2)


@given(st.tuples(*[st.integers(0, 40)] * 3).filter(lambda counts: sum(counts) > 0), st.sampled_from([0.05, 0.2, 0.01]))
def test_the_ends_are_where_the_score_test_begins_to_reject(counts: tuple[int, int, int], alpha: float) -> None:
    (b, c, rest), n = counts, sum(counts)
    found = difference_of(rest, b, c, 0, alpha)
    for end in found[1:]:
        if -1 < end < 1:
            second = likeliest(b, c, n, end)
            variance = n * (2 * second + end * (1 - end))
            assert (b - c - n * end) ** 2 / variance == pytest.approx(chi2.isf(alpha, 1), rel=1e-3)


@given(flags, st.randoms())
def test_a_paired_difference_does_not_depend_on_the_order_and_mirrors(
    pairs: list[tuple[bool, bool]], order: Random
) -> None:
    def of(rows: list[tuple[bool, bool]], first: int = 0, alpha: float = 0.05) -> Estimate:
        return paired_difference([row[first] for row in rows], [row[1 - first] for row in rows], alpha=alpha)

    difference, low, high = of(pairs)
    shuffled = list(pairs)
    order.shuffle(shuffled)
    assert of(shuffled) == (difference, low, high)
    assert of(pairs, first=1) == pytest.approx((-difference, -high, -low))
    assert -1 <= low <= difference <= high <= 1 and low < high
    surer = of(pairs, alpha=0.01)
    assert surer.low <= low and high <= surer.high


def of_groups(counts: list[tuple[int, int]]) -> Estimate:
    return average_of([Estimate(right / n, *wilson(right, n)) for right, n in counts])


@pytest.mark.parametrize("shares", [(0.9, 0.3, 0.6), (0.01, 0.0, 0.02), (1.0, 0.98, 0.5)])
def test_an_average_of_sets_holds_the_true_one_as_often_as_it_says(shares: tuple[float, ...]) -> None:
    rng, held = np.random.default_rng(3), 0
    sizes = (400, 100, 150)
    for _ in range(1000):
        found = of_groups([(int(rng.binomial(n, p)), n) for n, p in zip(sizes, shares, strict=True)])
        held += found.low <= sum(shares) / 3 <= found.high
    assert held / 1000 >= 0.935


def test_an_average_of_sets_is_unweighted_and_that_of_one_is_its_own() -> None:
    mean, low, high = of_groups([(1000, 1000), (2, 4)])
    assert mean == pytest.approx(0.75)
    assert low < 0.6 and high > 0.89  # pooled, a thousand and four images would leave a width of a point
    assert of_groups([(3, 10)]) == pytest.approx((0.3, *wilson(3, 10)))


def test_an_average_of_zeros_is_not_certain() -> None:
    assert of_groups([(0, 100)] * 4) == pytest.approx((0, 0, wilson(0, 100)[1] / 2))


def test_the_area_under_a_straight_curve_is_its_middle() -> None:
    assert area_under_curve([0, 4 / 255], [0.8, 0.2]) == pytest.approx(0.5)
    assert area_under_curve([4.0, 0.0, 1.0], [0.2, 0.8, 0.6]) == pytest.approx((0.7 + 3 * 0.4) / 4)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: clopper_pearson(6, 5), "6 successes of 5 is impossible"),
        (lambda: confidence_sequence(-1, 5), "-1 successes of 5 is impossible"),
        (lambda: confidence_sequence(0, -1), "impossible"),
        (lambda: clopper_pearson(1, 5, alpha=0), "alpha is 0"),
        (lambda: confidence_sequence(1, 5, alpha=1.5), "alpha is 1.5"),
        (lambda: confidence_sequence(1, 5, a=0), "a=0"),
        (lambda: mcnemar([True], [True, False]), "1 and 2 images cannot be paired"),
        (lambda: mcnemar([], []), "0 and 0 images"),
        (lambda: paired_difference([True], [True, False]), "1 and 2 images cannot be paired"),
        (lambda: paired_difference([True], [False], alpha=0), "alpha is 0"),
        (lambda: average_of([]), "no average"),
        (lambda: average_of([Estimate(0.5, 0.6, 0.7)]), "0.5 lies outside 0.6 to 0.7"),
        (lambda: area_under_curve([0.1], [0.5]), "two or more different radii"),
        (lambda: area_under_curve([0.1, 0.1, 0.2], [0.5, 0.4, 0.3]), "two or more different radii"),
        (lambda: area_under_curve([0.1, 0.2], [0.5]), "two or more different radii"),
    ],
)
def test_impossible_input_is_refused(wrong: Callable[[], object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        wrong()
