"""Which setting of a defence goes on: the best adaptive worst case among those that keep their clean accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eval.tuning_record import Score, Tried

ROUNDING = 1e-9  # of a difference of two shares


def keeps_clean(score: Score, bare: Score, max_clean_drop: float) -> bool:
    """Whether a setting's clean accuracy is near enough to the undefended encoder's."""
    return score.clean.value >= bare.clean.value - max_clean_drop - ROUNDING


def choose(tried: Sequence[Tried], bare: Score, *, keep: int, max_clean_drop: float) -> list[Tried]:
    """The settings, best first, each with its fate.

    Settings that lose too much clean accuracy come last and never go on, unless all do: a classifier that always says
    the same cannot be attacked, and is none.  Among equals in the worst case the higher clean accuracy wins, then the
    cheaper one, then the earlier one.

    Args:
        tried: settings with their scores.
        bare: the undefended encoder's score on the same images.
        keep: how many go on.
        max_clean_drop: clean accuracy that a setting may lose, as a fraction.
    """
    allowed = [one for one in tried if keeps_clean(one.score, bare, max_clean_drop)]
    others = [one for one in tried if not keeps_clean(one.score, bare, max_clean_drop)]
    allowed.sort(key=lambda one: (-one.score.worst.value, -one.score.clean.value, one.cost))
    others.sort(key=lambda one: (-one.score.clean.value, -one.score.worst.value, one.cost))
    going = (allowed or others)[:keep]
    return [
        *(replace(one, fate="kept" if one in going else "worst case") for one in allowed),
        *(replace(one, fate="kept" if one in going else "clean accuracy") for one in others),
    ]
