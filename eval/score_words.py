"""A scorecard in words: how its headline may be shown, and what was tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from eval.card import Card, Doubt, ViewNumber
from eval.tables import percent, threat_name
from modules.views import is_view, order_of

Tone = Literal["holds", "open", "struck"]


def tone(card: Card) -> Tone:
    """How the headline may be shown: as robustness, as a number to look at, or struck through."""
    if not card.believable:
        return "struck"
    return "open" if card.doubts else "holds"


def name_of(card: Card) -> str:
    """``CLIP`` or ``CLIP + ttc``."""
    return card.encoder if card.defense == "none" else f"{card.encoder} + {card.defense}"


def threat_of(card: Card) -> str:
    """``ℓ∞ 4/255``."""
    return threat_name(card.norm, card.eps)


def reasons(card: Card) -> list[str]:
    """Why the headline is no robustness, one sentence each; empty where it may be believed."""
    artefact = f"This is kept only to reproduce a release ({card.artefact})."
    return [artefact] * bool(card.artefact) + [doubt.text for doubt in card.doubts if doubt.severity == "red"]


def doubts_of(card: Card) -> list[Doubt]:
    """The doubts, red ones first."""
    return sorted(card.doubts, key=lambda doubt: doubt.severity != "red")


def views_of(card: Card) -> list[ViewNumber]:
    """The views in the order in which they are explained."""
    return sorted(card.views, key=lambda v: order_of(v.view))


def attacks_of(card: Card) -> list[str]:
    """Every attack that was tried, each once."""
    return list(dict.fromkeys(attack for view in views_of(card) for attack in view.attacks))


def gap_of(card: Card) -> float | None:
    """What looking away from the defence hides: the view past it minus the headline, as a fraction."""
    past = [v.share.value for v in card.views if is_view(v.view, "past")]
    return min(past) - card.headline.value if past else None


def tried(card: Card) -> str:
    """What was tried and how an image is counted."""
    attacks, views = attacks_of(card), [v.view for v in views_of(card)]
    images = f"{card.headline.n:,} images of {card.dataset}"
    if not attacks:
        return f"Nothing was tried on {images}."
    through = f"through {counted(len(views), 'view')} ({listed(views)})"
    return (
        f"On {images} every pixel change inside {threat_of(card)} was allowed. "
        f"{counted(len(attacks), 'attack').capitalize()} ({listed(attacks)}) looked for one {through}. "
        "An image counts only if it is right untouched and after every one of them."
    )


def beside(card: Card) -> str:
    """What the defence adds to the bare encoder's worst case, in words; empty where that is not known."""
    bare = card.static.get("worst")
    if bare is None:
        return ""
    gain = 100 * (card.headline.value - bare.value)
    apart = card.headline.low > bare.high or card.headline.high < bare.low
    how = "and the intervals are apart" if apart else "and the intervals overlap"
    if not card.believable:
        how = "which is not to be believed"
    more = f"{abs(gain):.1f} points {'more' if gain > 0 else 'fewer'}" if abs(gain) >= 0.05 else "as many"
    return f"Without the defence {percent(bare.value)} % of the same images stay right; with it {more}, {how}."


def hidden(card: Card) -> str:
    """What an attacker who looks past the defence would have missed, in words."""
    gap = gap_of(card)
    if gap is None or card.defense == "none":
        return ""
    if gap < 0.0005:
        return "Looking through the defence broke no image that looking past it had not broken." if gap >= 0 else ""
    return f"Attacks that look past the defence alone would have shown {100 * gap:.1f} points more."


def counted(number: int, noun: str) -> str:
    """``one view``, ``3 views``."""
    words = {0: "no", 1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
    return f"{words.get(number, number)} {noun}{'' if number == 1 else 's'}"


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def after_each(card: Card) -> str:
    """What the accuracies after single attacks count."""
    return {
        "none": "after each attack alone",
        "view": "after each attack and those before it in its view",
        "all": "after each attack and all before it",
    }.get(card.cascade, card.cascade)
