"""How sure a share of correct images is: the Wilson score interval."""

from __future__ import annotations

from math import sqrt

Z95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


def wilson(successes: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Lower and upper end of the score interval of a proportion (Wilson 1927).

    Unlike the normal interval it stays inside [0, 1] and has a width at 0 and at ``n`` successes.

    Args:
        successes: images that are still correct, 0..n; a mean over draws of the noise need not be whole.
        n: images tried; 0 gives (0, 1), nothing is known.
        z: normal quantile of the coverage, 1.96 for 95 %.

    Raises:
        ValueError: the counts are impossible.
    """
    if n < 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} is impossible; give 0 <= successes <= n")
    if n == 0:
        return 0.0, 1.0
    p, scale = successes / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high
