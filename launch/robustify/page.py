"""What came out of a robustification: one page, and a few lines for the terminal."""

from __future__ import annotations

import json
from pathlib import Path

from configs.files import write_atomically
from eval.card import Share, read_card
from eval.inert import inert
from eval.pages.render import render, style
from eval.pages.words import STAND_IN
from eval.tables import percent, plain, threat_name
from launch.comparison import Versus, compare_runs, rows_of
from launch.robustify.request import Request
from launch.sweep.progress import duration


def compared(folder: Path) -> list[Versus]:
    """Result and base on the same images, a comparison for each data set.

    Raises:
        ConfigError: scorecards are missing or damaged.
    """
    return compare_runs(folder / "scorecard", folder / "scorecard-base", "none")


def build_page(folder: Path, request: Request, command: str) -> Path:
    """The path of ``folder/index.html``, written whole.

    Raises:
        ConfigError: scorecards are missing or damaged.
    """
    found, card = compared(folder), inert(read_card(folder / "scorecard"))
    phases = json.loads((folder / "env.json").read_text(encoding="utf-8"))["phases"]
    page = render(
        "robustify.html.j2",
        style=style("style.css", "scorecard.css"),
        base=plain(request.config.base.encoder),
        result=plain(request.config.encoder),
        name=request.name,
        sections=[{"versus": versus, "rows": rows_of(versus)} for versus in found],
        doubts=card.doubts,
        budget=request.config.budget,
        stand_in=STAND_IN if card.dataset == "digits" else "",
        recipe=plain((folder / "recipe.yaml").read_text(encoding="utf-8"), keep_lines=True),
        phases=[(plain(name), duration(seconds)) for name, seconds in phases.items()],
        command=plain(command),
    )
    write_atomically(folder / "index.html", page)
    return folder / "index.html"


def told(folder: Path, request: Request) -> list[str]:
    """What came out and where it lies, a line each."""
    base, result = (read_card(folder / name) for name in ("scorecard-base", "scorecard"))
    names = max(len(base.encoder), len(result.encoder))
    lines = [f"{result.dataset}, {threat_name(result.norm, result.eps)}, {result.headline.n:,} images:"]
    for card in (base, result):
        lines.append(f"  {card.encoder:{names}}  clean {_shown(card.clean)}, worst case {_shown(card.headline)}")
    for versus in compared(folder):
        lines += [versus.sentence, *(f"! {caution}" for caution in versus.cautions)]
    lines += [
        f"weights: {folder / 'encoder.safetensors'}",
        f"open_clip: {folder / request.name}",
        f"recipe: {folder / 'recipe.yaml'}",
        f"page: {folder / 'index.html'}",
    ]
    return [("  " if line.startswith("  ") else "") + plain(line) for line in lines]


def _shown(share: Share) -> str:
    return f"{percent(share.value)} % ({percent(share.low)}–{percent(share.high)})"
