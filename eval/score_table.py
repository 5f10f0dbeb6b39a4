"""A scorecard for the terminal: the number, the views behind it, and the doubts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.card import Card, Doubt, Share
from eval.inert import inert
from eval.score_words import after_each, doubts_of, gap_of, name_of, reasons, threat_of, tone, tried, views_of
from eval.tables import percent, points

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

_STYLES = {"holds": "bold green", "open": "bold", "struck": "strike red"}


def score_table(card: Card) -> Group:
    """The scorecard as rich text; names are inert, and the headline is green only where nothing speaks against it."""
    from rich.console import Group
    from rich.text import Text

    card = inert(card)
    parts: list[Table | Text] = [_head(card), Text(tried(card), style="dim"), _views(card)]
    if card.artefact:
        parts.append(Text.assemble(("artefact ", "bold red"), f"kept only to reproduce a release ({card.artefact})"))
    parts += [doubt_line(doubt) for doubt in doubts_of(card)]
    if not card.artefact and not card.doubts:
        parts.append(Text("no check found a reason to doubt the number"))
    parts += [Text.assemble(("not checked ", "bold dim"), (sentence, "dim")) for sentence in card.unchecked]
    return Group(*parts)


def doubt_line(doubt: Doubt) -> Text:
    """A doubt for the terminal, and beneath it what to do about it."""
    from rich.text import Text

    color = "red" if doubt.severity == "red" else "yellow"
    text = Text.assemble((f"{doubt.severity} ", f"bold {color}"), doubt.text, (f"  {doubt.name}", "dim"))
    return text.append(f"\n→ {doubt.remedy}", style="italic") if doubt.remedy else text


def _head(card: Card) -> Text:
    from rich.text import Text

    share = card.headline
    text = Text.assemble((name_of(card), "bold"), f"  {card.dataset}, {threat_of(card)}, {card.budget} budget\n")
    text.append(f"{percent(share.value)} %", style=_STYLES[tone(card)])
    text.append(f"  95 % interval {percent(share.low)}–{percent(share.high)}, {share.n:,} images")
    if reasons(card):
        text.append("  not to be read as robustness", style="bold red")
    return text


def _views(card: Card) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("view", no_wrap=True)
    table.add_column("left, %", justify="right", no_wrap=True)
    table.add_column(after_each(card), overflow="fold")
    for name, share in card.static.items():
        table.add_row(Text(f"bare encoder, {name}", style="dim"), _share(share), Text())
    table.add_row(Text("clean"), _share(card.clean), Text())
    for view in views_of(card):
        each = "  ".join(f"{attack} {percent(value)}" for attack, value in view.attacks.items())
        table.add_row(Text(view.view), _share(view.share), Text(each))
    table.add_section()
    gap = gap_of(card)
    missed = f"past the defence minus worst: {points(gap)} points" if gap is not None and card.defense != "none" else ""
    table.add_row(Text("worst"), _share(card.headline), Text(missed))
    for name, share in (("mean draw", card.mean_draw), ("majority of draws", card.majority)):
        if share:
            table.add_row(Text(name), _share(share), Text())
    return table


def _share(share: Share) -> Text:
    from rich.text import Text

    return Text.assemble(percent(share.value), (f" {percent(share.low)}–{percent(share.high)}", "dim"))
