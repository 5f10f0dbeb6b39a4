"""How well a score tells attacked images from clean ones: the ROC curve, its area, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit

from eval.metrics import Z95, wilson
from eval.stats import Estimate


class Roc(NamedTuple):
    """The points of a ROC curve, from (0, 0) to (1, 1), one for each different score.

    Attributes:
        false_alarms: share of clean images at or above each threshold.
        caught: share of attacked images at or above it.
    """

    false_alarms: np.ndarray
    caught: np.ndarray


def roc(clean: Sequence[float], attacked: Sequence[float]) -> Roc:
    """The curve of a score that is high where an image looks attacked; equal scores share a point.

    Args:
        clean: scores of clean images.
        attacked: scores of attacked images.

    Raises:
        ValueError: one of the sides is empty.
    """
    low, high = _sides(clean, attacked)
    cuts = np.unique(np.concatenate([low, high]))[::-1]
    shares = [np.searchsorted(np.sort(-side), -cuts, side="right") / len(side) for side in (low, high)]
    return Roc(*(np.concatenate([[0.0], share]) for share in shares))


def area(clean: Sequence[float], attacked: Sequence[float | None], alpha_z: float = Z95) -> Estimate:
    """The area under the ROC curve, with a 95 % interval over the choice of images.

    The probability that an attacked image scores above a clean one, ties half.  An image stands on both sides, clean
    and attacked, so DeLong's variance (1988) is summed image by image, as for clustered data (Obuchowski 1997), and
    the interval is taken on the logit scale.  Where the sides do not overlap the variance is zero and says nothing:
    there the interval is Wilson's for as many images as the smaller side has.

    Args:
        clean: one score per image.
        attacked: of the same images, in the same order; None where an image was not attacked.
        alpha_z: normal quantile of the coverage.

    Raises:
        ValueError: the sides are not about the same images, or nothing was attacked.
    """
    if len(clean) != len(attacked):
        raise ValueError(f"{len(clean)} clean and {len(attacked)} attacked scores are not of the same images")
    there = np.array([score is not None for score in attacked])
    low, high = _sides(clean, [score for score in attacked if score is not None])
    above = _beaten(low, high)  # of each attacked image: the share of clean ones below it
    value = float(above.mean())
    influence = 1 - _beaten(high, low) - value
    influence[there] += (above - value) * (len(low) / len(high))
    count = len(low)
    error = float(np.sqrt((influence**2).sum() / max(count - 1, 1) / count))
    if not 0 < value < 1 or error == 0:
        fewer = min(len(low), len(high))
        return Estimate(value, *wilson(value * fewer, fewer, alpha_z))
    half = alpha_z * error / (value * (1 - value))
    return Estimate(value, float(expit(logit(value) - half)), float(expit(logit(value) + half)))


def separation(low: Sequence[float], high: Sequence[float], alpha_z: float = Z95) -> Estimate:
    """The area under the ROC curve of two sides that are of different images, with a 95 % interval.

    The probability that one of ``high`` exceeds one of ``low``, ties half; DeLong's variance (1988) on the logit scale,
    and Wilson's interval for as many images as the smaller side has where the sides do not overlap.

    Args:
        low: one score per image.
        high: one score per image, of other images.
        alpha_z: normal quantile of the coverage.

    Raises:
        ValueError: one of the sides is empty.
    """
    below, above = _sides(low, high)
    parts = _beaten(below, above), 1 - _beaten(above, below)
    value = float(parts[0].mean())
    error = sum(float(part.var(ddof=1)) / len(part) for part in parts if len(part) > 1) ** 0.5
    if not 0 < value < 1 or error == 0:
        fewer = min(len(below), len(above))
        return Estimate(value, *wilson(value * fewer, fewer, alpha_z))
    half = alpha_z * error / (value * (1 - value))
    return Estimate(value, float(expit(logit(value) - half)), float(expit(logit(value) + half)))


def _beaten(others: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """For each score the share of the others that it exceeds, ties half."""
    ordered = np.sort(others)
    below, up_to = (np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    return (below + up_to) / (2 * len(ordered))


def _sides(clean: Sequence[float], attacked: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    if len(clean) == 0 or len(attacked) == 0:
        raise ValueError(f"{len(clean)} clean and {len(attacked)} attacked scores make no ROC curve; give some of both")
    return np.asarray(clean, dtype=float), np.asarray(attacked, dtype=float)
