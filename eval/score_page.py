"""A scorecard as one self-contained page: the number, what stands behind it, and what speaks against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isfinite
from pathlib import Path
from typing import Any

from configs.files import write_atomically
from eval import plots
from eval.card import Bracket, Card, Cost, Curve, Share
from eval.inert import inert
from eval.pages.health import MEASURES, panel, quantity
from eval.pages.pictures import sheets_of
from eval.pages.render import render, style, trusted
from eval.pages.runs import read_examples
from eval.pages.words import STAND_IN
from eval.score_words import (
    after_each,
    attacks_of,
    beside,
    counted,
    doubts_of,
    gap_of,
    hidden,
    name_of,
    reasons,
    threat_of,
    tone,
    tried,
    views_of,
)
from eval.tables import percent, points, radius
from modules.views import meaning_of

VERDICTS = {
    "holds": "right under everything that was tried",
    "open": "right under everything that was tried, with doubts",
    "struck": "shown, but not believable",
}


@dataclass(frozen=True)
class Mark:
    """A place on the strip beneath the headline: where, in which colour, and in words."""

    kind: str
    value: float
    told: str


def build_score_page(card: Card, folder: Path) -> Path:
    """The path of ``folder/index.html``, written whole; the same card and pictures give the same bytes.

    The headline has a colour of its own only where nothing speaks against it.

    Args:
        card: what the page is about.
        folder: where it goes; pictures are taken from the ``examples.json`` in it, if there is one.

    Raises:
        ConfigError: the pictures are damaged.
    """
    card = inert(card)
    sheets = sheets_of(folder, read_examples(folder / "examples.json"))
    page = render("scorecard.html.j2", **_context(card), sheets=sheets, contents=_contents(card, bool(sheets)))
    write_atomically(folder / "index.html", page)
    return folder / "index.html"


def _contents(card: Card, sheets: bool) -> list[tuple[str, str]]:
    found = [
        ("doubts", "Reasons to doubt", True),
        ("views", "What the attacker followed", True),
        ("bracket", "Between proof and attack", card.bracket),
        ("strength", "Had the attacker had more", card.curves),
        ("health", "Are the gradients sound?", card.health),
        ("cost", "What one image costs", card.cost),
        ("pictures", "Pictures", sheets),
        ("notes", "Notes", card.notes),
        ("run", "The same again", True),
    ]
    return [(anchor, text) for anchor, text, there in found if there]


def _context(card: Card) -> dict[str, Any]:
    attacks, views = attacks_of(card), views_of(card)
    return {
        "card": card,
        "after_each": after_each(card),
        "style": style("style.css", "scorecard.css"),
        "system": name_of(card),
        "threat": threat_of(card),
        "tone": tone(card),
        "verdict": VERDICTS[tone(card)],
        "behind": f"after {counted(len(attacks), 'attack')} through {counted(len(views), 'view')}",
        "reasons": reasons(card),
        "doubts": doubts_of(card),
        "marks": _marks(card),
        "sentences": [text for text in (tried(card), beside(card), hidden(card)) if text],
        "stand_in": STAND_IN if card.dataset == "digits" else "",
        "views": [(v, meaning_of(v.view), min(v.attacks, key=lambda a, v=v: v.attacks[a], default="")) for v in views],
        "gap": gap_of(card),
        "beside": [(name, bare, _own(card, name)) for name, bare in card.static.items()],
        "draws": _draws(card),
        "bracket": _bracket(card.bracket),
        "curves": _curves(card),
        "measures": MEASURES,
        "panel": panel(card.health),
        "cost": _cost(card.cost),
        "facts": _facts(card),
    }


def _marks(card: Card) -> list[Mark]:
    marks = [Mark(tone(card), card.headline.value, f"worst case {percent(card.headline.value)} %")]
    bare = card.static.get("worst")
    if bare:
        marks.append(Mark("bare", bare.value, f"without the defence {percent(bare.value)} %"))
    marks.append(Mark("clean", card.clean.value, f"clean {percent(card.clean.value)} %"))
    return marks


def _own(card: Card, name: str) -> Share | None:
    views = {view.view: view.share for view in card.views}
    return {**views, "clean": card.clean, "worst": card.headline}.get(name)


def _draws(card: Card) -> list[tuple[str, str, Share]]:
    rows = [
        ("worst draw", "right in every draw", card.headline),
        ("mean draw", "right in one draw, on average", card.mean_draw),
        ("majority", "right in more than half of the draws", card.majority),
    ]
    found = [(name, meaning, share) for name, meaning, share in rows if share]
    return found if len(found) > 1 else []


def _bracket(bracket: Bracket | None) -> dict[str, Any] | None:
    if bracket is None:
        return None
    proved = bracket.certified
    top = bracket.attacked.value if bracket.attacked else 1.0
    told = [("proved", f"proved to hold: {_share(proved)}")]
    if bracket.attacked:
        told.append(("between", f"not proved, but not broken either: up to {_share(bracket.attacked)}"))
        told.append(("fallen", f"broken: {percent(1 - top)} %"))
    else:
        told.append(("between", "not proved; the attacks used another ball, so nothing is said from above"))
    return {
        "radius": radius(bracket.eps),
        "proved": proved.value,
        "between": max(top - proved.value, 0.0),
        "wrong": proved.value > top,
        "legend": told,
        "told": "; ".join(text for _, text in told),
    }


def _share(share: Share) -> str:
    return f"{percent(share.value)} % ({percent(share.low)}–{percent(share.high)}, {share.n:,} images)"


def _curves(card: Card) -> list[tuple[Any, str]]:
    order = ("eps", "steps", "restarts", "draws")
    usable = sorted((c for c in card.curves if c.points), key=lambda c: order.index(c.over))
    grouped = [(over, list(same)) for over, same in groupby(usable, key=lambda c: c.over)]
    return [
        (trusted(plots.over_strength(same, card.clean, f"c-{over}")), " ".join(_ending(c) for c in same))
        for over, same in grouped
    ]


def _ending(curve: Curve) -> str:
    """What the end of a curve says, with the numbers that a picture does not give exactly."""
    counts = sorted({share.n for _, share in curve.points})
    images = " to ".join(f"{n:,}" for n in dict.fromkeys((counts[0], counts[-1]))) + " images"
    what = f"{curve.attack} ({curve.view})"
    last, share = curve.points[-1]
    if curve.over == "eps":
        where = ", where any image can become one of another class" if curve.whole else ""
        return f"{what}: {percent(share.value)} % left at {radius(last)}{where}, {images}."
    if len(curve.points) == 1:
        return f"{what}: {percent(share.value)} % at {last:g} {curve.over}, {images}."
    before, earlier = curve.points[-2]
    change = share.value - earlier.value
    moved = f"{points(change)} points" if abs(change) >= 0.0005 else "no change"
    return f"{what}: {moved} from {before:g} to {last:g} {curve.over}, {percent(share.value)} % left, {images}."


def _cost(cost: Cost | None) -> list[tuple[str, str, str, str]]:
    if cost is None:
        return []
    ratio = cost.milliseconds / cost.bare_milliseconds if cost.bare_milliseconds > 0 else float("nan")
    return [
        ("passes forward", quantity(cost.forwards), "1", f"{quantity(cost.forwards)} ×"),
        ("passes back", quantity(cost.backwards), "0", "–"),
        (
            "milliseconds",
            quantity(cost.milliseconds),
            quantity(cost.bare_milliseconds),
            f"{quantity(ratio)} ×" if isfinite(ratio) else "–",
        ),
    ]


def _facts(card: Card) -> list[tuple[str, str]]:
    facts: Sequence[tuple[str, object]] = [
        ("encoder", card.encoder),
        ("model", card.model),
        ("weights", card.weights),
        ("defence", card.defense),
        *((f"… {name}", value) for name, value in card.settings.items()),
        ("data", card.dataset),
        ("threat", f"{threat_of(card)} ({card.norm}, eps {card.eps:.6g})"),
        ("budget", card.budget),
        ("evaluation", card.config),
        ("seed", card.seed),
    ]
    return [(name, str(value)) for name, value in facts if str(value)]
