"""Two classifiers, or two defences, on the very same images: which is better, and is it chance?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eval.stats import Estimate, McNemar, mcnemar, paired_difference

ALPHA = 0.05


@dataclass(frozen=True)
class Comparison:
    """A paired comparison.

    Attributes:
        n: images.
        first: accuracy of the first, 0..1.
        second: accuracy of the second.
        difference: first minus second, with its score interval of 95 %.
        test: the exact McNemar test of the images on which the two differ.
    """

    n: int
    first: float
    second: float
    difference: Estimate
    test: McNemar

    @property
    def sentence(self) -> str:
        """The comparison in plain words."""
        return self.in_words("the first", "the second")

    @property
    def by_chance(self) -> bool:
        """Whether chance explains the difference."""
        return self.test.p >= ALPHA

    def in_words(self, first: str, second: str) -> str:
        """The comparison in plain words, with names for the two."""
        b, c, p = self.test
        shown = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
        points, low, high = (100 * number for number in self.difference)
        images = "1 image" if b == 1 else f"{b:,} images"
        if b == c:
            verdict = "they are equally often right"
        else:
            chance = "chance explains it as well" if self.by_chance else "more than chance explains"
            verdict = f"{first if b > c else second} is right more often, {chance}"
        return (
            f"On the same {self.n:,} images {first} is right on {100 * self.first:.1f} % and {second} on "
            f"{100 * self.second:.1f} %, a difference of {points:+.1f} points (95 % interval {low:+.1f} to "
            f"{high:+.1f}); {images} only {first} got right, {c:,} only {second} (McNemar {shown}): {verdict}."
        )


def compare(first: Mapping[str, bool], second: Mapping[str, bool]) -> Comparison:
    """What the images say about two classifiers; neither their order nor the mappings' matters.

    Args:
        first: image id -> right or wrong.
        second: the same ids -> right or wrong.

    Raises:
        ValueError: no images, or not the same ones.
    """
    only_first, only_second = sorted(first.keys() - second.keys()), sorted(second.keys() - first.keys())
    if only_first or only_second:
        example = (only_first or only_second)[0]
        where = "first" if only_first else "second"
        raise ValueError(
            f"the two are not about the same images: {len(only_first):,} are only in the first, {len(only_second):,} "
            f"only in the second (e.g. {example!r}, only in the {where}); evaluate both on the same images"
        )
    if not first:
        raise ValueError("there are no images to compare on; give both at least one")
    a = list(first.values())
    b = [second[image] for image in first]
    return Comparison(
        n=len(a),
        first=sum(a) / len(a),
        second=sum(b) / len(b),
        difference=paired_difference(a, b, alpha=ALPHA),
        test=mcnemar(a, b),
    )
