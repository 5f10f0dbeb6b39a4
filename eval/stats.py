"""How sure the numbers are: intervals, paired tests, and intervals that may be looked at after every image."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot, inf, log, sqrt
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainc, betaincinv, betaln, expit, log_expit, logit, ndtri

_FAR = 700.0  # logit of a probability that is 0 for every purpose


class McNemar(NamedTuple):
    """What the images say on which two classifiers differ.

    Attributes:
        b: images that only the first got right.
        c: images that only the second got right.
        p: chance of a split at least this uneven if neither were better.
    """

    b: int
    c: int
    p: float


class Estimate(NamedTuple):
    """A number and the ends of its interval."""

    value: float
    low: float
    high: float


def clopper_pearson(successes: int, n: int, alpha: float = 0.05) -> tuple[float, float]:
    """Lower and upper end of the exact interval of a proportion (Clopper & Pearson 1934).

    It holds the true share with probability 1 - alpha or more whatever that share is, and is wider for it than
    ``eval.metrics.wilson``, which dips below at some shares.

    Args:
        successes: images that are still correct, 0..n.
        n: images tried; 0 gives (0, 1).
        alpha: how often the interval may miss.

    Raises:
        ValueError: impossible counts, or alpha outside (0, 1).
    """
    _check(successes, n, alpha)
    failures = n - successes
    low = float(betaincinv(successes, failures + 1, alpha / 2)) if successes else 0.0
    high = float(betaincinv(successes + 1, failures, 1 - alpha / 2)) if failures else 1.0
    return low, high


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> McNemar:
    """The exact McNemar test of two classifiers on the same images (McNemar 1947, binomial form).

    Args:
        a: one flag per image, right or wrong, of the first.
        b: of the second, in the same order.

    Raises:
        ValueError: not the same number of images, or none.
    """
    first, second = _paired(a, b)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    fewer, more = sorted((only_first, only_second))
    tail = betainc(more, fewer + 1, 0.5) if more else 1.0  # Pr[Binomial(fewer + more, 1/2) <= fewer]
    return McNemar(only_first, only_second, min(1.0, 2 * float(tail)))


def paired_difference(a: Sequence[bool], b: Sequence[bool], *, alpha: float = 0.05) -> Estimate:
    """Accuracy of a minus that of b, with the score interval of paired proportions (Tango 1998).

    It holds the differences that a score test does not reject, so that two classifiers which agree on every image
    still differ by up to about four in n.  Resampled images would say that they cannot differ at all.

    Args:
        a: one flag per image, right or wrong, of the first.
        b: of the second, in the same order.
        alpha: how often the interval may miss.

    Raises:
        ValueError: not the same number of images, or none; alpha outside (0, 1).
    """
    first, second = _paired(a, b)
    _check_alpha(alpha)
    n, z = len(first), float(ndtri(1 - alpha / 2))
    only_first, only_second = float((first & ~second).mean()), float((second & ~first).mean())
    low, high = -_highest_difference(only_second, only_first, n, z), _highest_difference(only_first, only_second, n, z)
    return Estimate(only_first - only_second, low, high)


def average_of(parts: Sequence[Estimate]) -> Estimate:
    """The unweighted average of the accuracies of several data sets, with an interval made of theirs.

    Distances of the averages' parts from their ends are squared and added (Zou & Donner 2008, MOVER), so that data
    sets without a single error, or with nothing else, add the width that they have; resampled images would add none,
    and an average of zeros would look certain.  The data sets themselves are taken as given.

    Args:
        parts: accuracy and interval of each data set, on images of its own.

    Raises:
        ValueError: no data set, or a value outside its interval.
    """
    if not parts:
        raise ValueError("no data sets have no average; give at least one")
    for part in parts:
        if not part.low - 1e-9 <= part.value <= part.high + 1e-9:
            raise ValueError(f"{part.value} lies outside {part.low} to {part.high}; give the ends of its interval")
    n = len(parts)
    value = sum(part.value for part in parts) / n
    below = sqrt(sum((part.value - part.low) ** 2 for part in parts)) / n
    above = sqrt(sum((part.high - part.value) ** 2 for part in parts)) / n
    return Estimate(value, max(0.0, value - below), min(1.0, value + above))


def confidence_sequence(
    successes: float, n: int, alpha: float = 0.05, a: float = 0.5, b: float = 0.5
) -> tuple[float, float]:
    """An interval of a proportion that may be looked at after every image (Robbins 1970, beta-binomial mixture).

    With probability 1 - alpha it holds the true share at *all* n at once, so one may stop whenever it says enough.
    The images must come in a random order.  It is about the choice of images only: no weak attack widens it.

    Args:
        successes: images that are still correct, 0..n; also a sum of shares in [0, 1], one per image, of which the
            sequence then holds the mean.
        n: images tried; 0 gives (0, 1).
        alpha: how often the sequence may miss, ever.
        a: first parameter of the mixing beta distribution.
        b: second parameter.

    Raises:
        ValueError: impossible counts, alpha outside (0, 1), or a mixture that is no distribution.
    """
    _check(successes, n, alpha)
    if a <= 0 or b <= 0:
        raise ValueError(f"a beta distribution has positive parameters, not a={a}, b={b}")
    low = _lower_end(successes, n, alpha, a, b)
    return low, 1 - _lower_end(n - successes, n, alpha, b, a)


def area_under_curve(eps: Sequence[float], accuracy: Sequence[float]) -> float:
    """Mean accuracy over a range of radii: the trapezoid area under the curve, divided by the range.

    Args:
        eps: radii in any order, at least two different ones and none twice.
        accuracy: at each radius.

    Raises:
        ValueError: lengths differ, too few radii, or a radius twice.
    """
    if len(eps) != len(accuracy) or len(set(eps)) < max(2, len(eps)):
        raise ValueError(f"a curve needs two or more different radii with one accuracy each, not eps={list(eps)}")
    order = np.argsort(eps)
    x, y = np.asarray(eps, dtype=float)[order], np.asarray(accuracy, dtype=float)[order]
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum() / (x[-1] - x[0]))


def _lower_end(successes: float, n: int, alpha: float, a: float, b: float) -> float:
    """Smallest p whose likelihood is not yet beaten by the mixture's by a factor of 1 / alpha."""
    if successes == 0:
        return 0.0
    failures = n - successes
    mixture = float(betaln(a + successes, b + failures) - betaln(a, b))

    def excess(t: float) -> float:  # in logits, where nothing is rounded to 0 or 1
        return mixture - successes * float(log_expit(t)) - failures * float(log_expit(-t)) + log(alpha)

    top = float(logit(successes / n)) if failures else inf
    return float(expit(brentq(excess, -_FAR, min(top, _FAR), xtol=1e-12)))


def _highest_difference(b: float, c: float, n: int, z: float) -> float:
    """The largest difference that the score test accepts; b, c: shares of images that only the first, second got right.

    The test divides b - c - difference by the standard deviation at the likeliest shares of that difference
    (Tango 1998, eq. 2.10 ff.).
    """

    def excess(difference: float) -> float:  # the statistic t as t / sqrt(1 + t^2), which is finite everywhere
        spread = difference * (1 - difference)
        linear = (2 - b + c) * difference - b - c
        root = sqrt(max(linear**2 + 8 * c * spread, 0.0))
        likeliest = 2 * c * spread / (linear + root) if linear > 0 else (root - linear) / 4  # without cancellation
        distance = b - c - difference
        length = hypot(distance, sqrt(max(2 * likeliest + spread, 0.0) / n))
        return (distance / length if length else 0.0) + z / sqrt(1 + z * z)

    return float(np.asarray(brentq(excess, b - c, 1.0, xtol=1e-12))) if b < 1 else 1.0


def _check(successes: float, n: int, alpha: float) -> None:
    if n < 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} is impossible; give 0 <= successes <= n")
    _check_alpha(alpha)


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; it is the chance of a miss, between 0 and 1")


def _paired(a: Sequence[bool], b: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    if len(a) != len(b) or len(a) == 0:
        raise ValueError(f"{len(a)} and {len(b)} images cannot be paired; give the same images to both, at least one")
    return np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
