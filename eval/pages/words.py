"""Numbers put into sentences, by rules: nothing is claimed beyond the attacks that were tried."""

from __future__ import annotations

from collections.abc import Sequence

from eval.results import Result
from eval.tables import NO_ATTACK, HeadlineRow, attacks_on, lowest
from modules.views import View

STAND_IN = (
    "These numbers come from a stand-in: handwritten digits and, as a rule, a tiny model. "
    "They show that the machinery works; they do not transfer to CLIP."
)


def share(value: float) -> str:
    """``71 %``; one decimal where rounding would claim all or nothing."""
    points = 100 * value
    whole = 1 <= points <= 99 or points in (0, 100)
    return f"{points:.0f} %" if whole else f"{points:.1f} %"


def verdicts(rows: Sequence[HeadlineRow]) -> list[str]:
    """The verdict of one threat: on each encoder alone, and on the defences on top of it."""
    sentences = []
    for encoder in dict.fromkeys(r.encoder for r in rows):
        mine = [r for r in rows if r.encoder == encoder]
        bare = next((r for r in mine if r.defense == "none"), None)
        defended = [r for r in mine if r.defense != "none"]
        parts = [_alone(encoder, bare)] if bare else []
        if bare and bare.worst and defended:
            parts.append(_on_top(bare, defended))
        elif defended:
            parts += [_alone(r.name, r) for r in defended]
        sentences.append(" ".join(parts))
    return sentences


def _alone(name: str, row: HeadlineRow) -> str:
    if row.norm == NO_ATTACK and row.clean:
        return f"{name} is right on {share(row.clean.value)} of {row.clean.n:,} clean images; nothing attacked them."
    if row.worst is None:
        return f"For {name} no worst case was recorded, so nothing is said about it."
    kept = f"{share(row.worst.value)} of {row.worst.n:,} images"
    if row.caution:
        return f"{name} shows {kept}, but that is no robustness ({row.caution})."
    return f"{name} keeps {kept} under the strongest attack tried."


def _on_top(bare: HeadlineRow, defended: Sequence[HeadlineRow]) -> str:
    assert bare.worst is not None
    base = bare.worst
    counted = [r for r in defended if r.worst and not r.caution]
    held_back = [r for r in defended if r.caution or not r.worst]
    above = [r for r in counted if r.worst and r.worst.low > base.high]
    below = [r for r in counted if r.worst and r.worst.high < base.low]
    parts = []
    if above:
        verb = "raises" if len(above) == 1 else "raise"
        parts.append(f"On top, {_list(above)} {verb} the worst case, the intervals apart.")
    elif counted:
        many = {
            1: f"On top, {counted[0].defense} does not raise",
            2: "Neither defence on top raises",
        }
        subject = many.get(len(counted), f"None of the {len(counted)} defences on top raises")
        parts.append(f"{subject} the worst case by more than its interval.")
    if below:
        parts.append(f"Lower than without: {_list(below)}.")
    if held_back:
        parts.append(f"No claim about {_reasons(held_back)}.")
    return " ".join(parts)


def _list(rows: Sequence[HeadlineRow]) -> str:
    return _joined([f"{r.defense} ({share(r.worst.value)})" for r in rows if r.worst])


def _reasons(rows: Sequence[HeadlineRow]) -> str:
    return _joined([f"{r.defense} ({r.caution or 'no worst case'})" for r in rows])


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def defence_in_words(row: HeadlineRow, rows: Sequence[Result]) -> list[str]:
    """What separates transfer from worst case, which attack did it, and what was tried."""
    tried = attacks_on(rows, row)
    sentences = []
    if row.transfer and row.worst and row.gap is not None:
        sentences.append(
            f"Attacks that look past the defence leave {share(row.transfer.value)}; the worst case "
            f"over everything tried leaves {share(row.worst.value)}, {_gap(row.gap)}."
        )
    elif row.worst:
        sentences.append(f"The worst case over everything tried leaves {share(row.worst.value)}.")
    strongest = lowest(tried)
    if strongest:
        sentences.append(
            f"The strongest single attack was {strongest.attack} through the {strongest.view} "
            f"view: {share(strongest.value)}."
        )
    sentences += _released(tried)
    if row.caution:
        sentences.append(f"Not counted as robustness ({row.caution}).")
    return [*sentences, f"Tried: {tried_list(tried)}."] if tried else sentences


def _gap(gap: float) -> str:
    points = 100 * gap
    if abs(points) < 0.05:
        return "the same"
    return f"{abs(points):.1f} points {'lower' if points > 0 else 'higher'}"


def _released(tried: Sequence[Result]) -> list[str]:
    released = lowest(tried, lambda r: r.view == View.released)
    if released is None:
        return []
    exact = lowest(tried, lambda r: (r.view, r.attack) == (View.adaptive, released.attack))
    exact = exact or lowest(tried, lambda r: r.view == View.adaptive)
    through = f"Through the released gradient it keeps {share(released.value)}"
    if exact is None:
        return [f"{through}; the exact gradient was not tried."]
    other = "" if exact.attack == released.attack else f" ({exact.attack})"
    return [f"{through}, through the exact one {share(exact.value)}{other}."]


def tried_list(tried: Sequence[Result]) -> str:
    """``pgd (transfer, bpda), square (adaptive)``."""
    views: dict[str, dict[str, None]] = {}
    for row in tried:
        views.setdefault(row.attack, {})[row.view] = None
    return ", ".join(f"{attack} ({', '.join(seen)})" for attack, seen in views.items())
