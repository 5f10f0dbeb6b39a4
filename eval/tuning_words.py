"""What a tuning found, in sentences that claim no more than the paired test allows."""

from __future__ import annotations

from collections.abc import Sequence

from eval.card import Doubt
from eval.compare import Comparison
from eval.tables import percent, points
from eval.tuning_choice import keeps_clean
from eval.tuning_record import Kind, Rung, Score, Tried, Verdict

BARE = "the undefended encoder"


def verdict(
    comparison: Comparison,
    rungs: Sequence[Rung],
    *,
    judged: Score,
    bare: Score,
    max_clean_drop: float,
    doubts: Sequence[Doubt] = (),
) -> Verdict:
    """Whether the winner beats the undefended encoder.

    Args:
        comparison: of the two worst cases on the judging images, winner first.
        rungs: all of them; the first setting of the last is the winner.
        judged: the winner on the judging images.
        bare: the undefended encoder there.
        max_clean_drop: clean accuracy that a setting might lose.
        doubts: about the winner.
    """
    rung, count = rungs[-1], len(rungs[0].tried)
    winner = rung.tried[0]
    red = [doubt for doubt in doubts if doubt.severity == "red"]
    kind: Kind = "not believable" if red else verdict_of(comparison)
    sentences = [_result(comparison, winner, count), *_doubted(red)]
    sentences += [_tuned(rung, winner, count), *_by_transfer(rungs[0], winner, max_clean_drop)]
    sentences += _clean(winner, rung, judged, bare, max_clean_drop) + _draws(judged, bare)
    return Verdict(kind, sentences)


def verdict_of(comparison: Comparison) -> Kind:
    """``beats`` or ``is worse`` only where the interval and the exact test both say so."""
    _, low, high = comparison.difference
    if comparison.by_chance or low <= 0 <= high:
        return "does not beat"
    return "beats" if low > 0 else "is worse"


def _result(found: Comparison, winner: Tried, count: int) -> str:
    value, low, high = found.difference
    p = "p < 0.001" if found.test.p < 0.001 else f"p = {found.test.p:.3f}"
    sure = f"(95 % interval {points(low)} to {points(high)}, McNemar {p})"
    size = f"{100 * abs(value):.1f} points"
    claim = {
        "beats": f"beats {BARE} by {size} {sure}",
        "is worse": f"is worse than {BARE} by {size} {sure}",
    }.get(verdict_of(found), f"does not beat {BARE}: {points(value)} points {sure} is what chance explains")
    who = f"The best of {count:,} settings" if count > 1 else "The only setting"
    return (
        f"{who}, {winner.name}, {claim}. In their worst cases {percent(found.first)} % and {percent(found.second)} % "
        f"of {found.n:,} images stay right; none of these images took part in the choice."
    )


def _doubted(red: Sequence[Doubt]) -> list[str]:
    if not red:
        return []
    return ["That number is no robustness: " + " ".join(doubt.text for doubt in red)]


def _tuned(rung: Rung, winner: Tried, count: int) -> str:
    own, bare = winner.score.worst.value, rung.bare.worst.value
    kept = f"{percent(own)} % against {percent(bare)} %"
    if max(own, bare) == 0:
        return (
            f"On the {winner.score.worst.n:,} tuning images nothing was left of any setting, nor of {BARE}: the worst "
            "case could not choose, and a smaller threat.eps can."
        )
    if own <= bare:
        return f"Already on the tuning images no setting of the last rung beat {BARE}: the winner kept {kept}."
    return (
        f"Where it was chosen, on {winner.score.worst.n:,} tuning images, its lead was {points(own - bare)} points "
        f"({kept}){f'; a best of {count:,} looks better there than it is' if count > 1 else ''}."
    )


def _by_transfer(rung: Rung, winner: Tried, most: float) -> list[str]:
    """What would have been chosen by attacks that look past the defence, where that is another and a worse one."""
    seen = [(one.score.transfer.value, one) for one in rung.tried if one.score.transfer]
    seen = [(value, one) for value, one in seen if keeps_clean(one.score, rung.bare, most)]
    if not seen:
        return []
    value, apparent = max(seen, key=lambda pair: pair[0])  # of equals the one with the better worst case
    own = next(one for one in rung.tried if one.name == winner.name)
    if apparent.score.worst.value >= own.score.worst.value:
        return []
    return [
        f"By transferred attacks alone {apparent.name} would have been chosen, which looks like {percent(value)} % "
        f"there ({rung.name}: {percent(rung.bare.worst.value)} % without a defence) and keeps "
        f"{percent(apparent.score.worst.value)} %."
    ]


def _clean(winner: Tried, rung: Rung, judged: Score, bare: Score, most: float) -> list[str]:
    told = (
        f"Without an attack {percent(judged.clean.value)} % are right behind it and {percent(bare.clean.value)} % "
        "without it."
    )
    if not keeps_clean(winner.score, rung.bare, most):
        return [f"No setting kept its clean accuracy within {100 * most:g} points; this one lost the least.", told]
    if not keeps_clean(judged, bare, most):
        return [
            told + f" That is more than the {100 * most:g} points that it might lose, and kept on the tuning images."
        ]
    return [told]


def _draws(judged: Score, bare: Score) -> list[str]:
    if judged.mean_draw is None:
        return []
    return [
        f"Its noise is drawn anew for every look: an image counts only if it is right in every draw, and in one draw, "
        f"on average, {percent(judged.mean_draw.value)} % are; {BARE} has no noise ({percent(bare.worst.value)} %)."
    ]
