"""Doubts from curves and brackets: more strength must never help the defence, and enough of it must fell it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from eval.card import Bracket, Curve, Doubt
from eval.checks.probed import percent

LEFT = 0.05  # of the clean accuracy: what may survive in a ball that holds images of other classes
FALLING = 0.02  # what the last step of a curve may still cost
ONE_STEP = 0.02  # by how much one step may beat all longer runs
CONTRADICTION = 0.002  # certificates may be wrong once in a thousand images

_WHAT = {"eps": "a larger eps", "steps": "more steps", "restarts": "more restarts", "draws": "more draws of the noise"}


def curve_doubts(curves: Sequence[Curve], unchecked: list[str]) -> list[Doubt]:
    """All doubts that curves raise; what cannot be told from them is added to ``unchecked``."""
    if not any(curve.whole for curve in curves):
        unchecked.append(
            "Whether an attack with all the room in the world fells everything: no curve over eps ends in a ball that "
            "holds images of other classes (strength.eps, strength.whole)."
        )
    doubts: list[Doubt] = []
    for curve in curves:
        doubts += [*rising_doubts(curve), *end_doubts(curve), *settled_doubts(curve), *one_step_doubts(curve)]
    return doubts


def rising_doubts(curve: Curve) -> list[Doubt]:
    """Accuracy that grows with the attack's strength, beyond both intervals."""
    for (weak, before), (strong, after) in combinations(curve.points, 2):
        if after.low > before.high:
            text = (
                f"With {_WHAT[curve.over]} ({_at(curve, weak)} to {_at(curve, strong)}) {curve.attack} ({curve.view}) "
                f"leaves {percent(after.value)} standing instead of {percent(before.value)}: a stronger attack is "
                "never weaker, so it is misled."
            )
            return [Doubt("not_monotone", "red" if curve.over == "eps" else "amber", text)]
    return []


def end_doubts(curve: Curve) -> list[Doubt]:
    """Accuracy in a ball so large that every answer can be had; of what is right in the smallest one."""
    if not curve.whole:
        return []
    (_, near), (eps, share) = curve.points[0], curve.points[-1]
    if share.low <= LEFT * near.value:
        return []
    text = (
        f"At eps {_at(curve, eps)}, where any image can become one of another class, {curve.attack} ({curve.view}) "
        f"still leaves {percent(share.value)} of {percent(near.value)} standing. An attack that works leaves none."
    )
    return [Doubt("never_falls", "red", text)]


def settled_doubts(curve: Curve) -> list[Doubt]:
    """A curve over the attack's effort that still falls at its end."""
    if curve.over == "eps" or len(curve.points) < 2:
        return []
    (_, before), (last, after) = curve.points[-2:]
    fall = before.value - after.value
    if fall <= FALLING:
        return []
    text = (
        f"{curve.attack} ({curve.view}) still gains {100 * fall:.1f} points by going to {_at(curve, last)}: the attack "
        "has not converged, and the true number is lower."
    )
    return [Doubt("not_converged", "amber", text)]


def one_step_doubts(curve: Curve) -> list[Doubt]:
    """A single step that fells more than many."""
    if curve.over != "steps" or len(curve.points) < 2 or curve.points[0][0] > 1:
        return []
    one, best = curve.points[0][1].value, min(share.value for _, share in curve.points[1:])
    if best - one <= ONE_STEP:
        return []
    text = (
        f"One step of {curve.attack} ({curve.view}) leaves {percent(one)} standing, many steps {percent(best)}: the "
        "gradients on the way mislead."
    )
    return [Doubt("one_step_wins", "red", text)]


def bracket_doubts(bracket: Bracket | None) -> list[Doubt]:
    """More images with a certificate than images that survive."""
    if bracket is None or bracket.attacked is None:
        return []
    if bracket.certified.value - bracket.attacked.value <= CONTRADICTION:
        return []
    text = (
        f"{percent(bracket.certified.value)} of the images have a certificate for l2 radius {bracket.eps:.3g}, but "
        f"only {percent(bracket.attacked.value)} survive attacks inside it: one of the two is wrong."
    )
    return [Doubt("certified_above_attacked", "red", text)]


def _at(curve: Curve, x: float) -> str:
    return f"{255 * x:.3g}/255" if curve.over == "eps" else f"{x:g} {curve.over}"
