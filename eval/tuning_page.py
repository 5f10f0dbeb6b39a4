"""A tuning as one self-contained page: the verdict, where it comes from, and every setting that was tried."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.files import write_atomically
from eval.inert import inert
from eval.pages.render import render, style, trusted
from eval.pages.tuning import best_of, over_setting, transfer_scatter
from eval.pages.words import STAND_IN
from eval.tables import points, threat_name
from eval.tuning_record import Kind, Rung, Tuning

TONES: dict[Kind, str] = {"beats": "holds", "does not beat": "open", "is worse": "open", "not believable": "struck"}
HEADS: dict[Kind, str] = {
    "beats": "a setting beats the undefended encoder",
    "does not beat": "no setting is shown to beat the undefended encoder",
    "is worse": "the best setting is worse than the undefended encoder",
    "not believable": "shown, but not believable",
}


def build_tuning_page(tuning: Tuning, folder: Path) -> Path:
    """The path of ``folder/index.html``, written whole; the same tuning gives the same bytes.

    Args:
        tuning: what the page is about.
        folder: where it goes.
    """
    write_atomically(folder / "index.html", render("tuning.html.j2", **_context(inert(tuning))))
    return folder / "index.html"


def _context(tuning: Tuning) -> dict[str, Any]:
    first, kind = tuning.rungs[0], tuning.verdict.kind
    value, low, high = tuning.comparison.difference
    return {
        "tuning": tuning,
        "style": style("style.css", "scorecard.css"),
        "threat": threat_name(tuning.norm, tuning.eps),
        "tone": TONES[kind],
        "head": HEADS[kind],
        "lead": points(value),
        "interval": f"{points(low)} to {points(high)}",
        "p": "p < 0.001" if tuning.comparison.test.p < 0.001 else f"p = {tuning.comparison.test.p:.3f}",
        "stand_in": STAND_IN if tuning.dataset == "digits" else "",
        "stages": [*((rung.name, rung.bare, rung.tried[0]) for rung in tuning.rungs)],
        "lines": [
            (key.replace("_", " "), trusted(over_setting(first, key, values, f"p{i}")))
            for i, (key, values) in enumerate(tuning.search.items())
            if len(values) > 1
        ],
        "heat": _heat(tuning, first),
        "scatter": trusted(transfer_scatter(first, tuning.winner, "s")),
        "facts": _facts(tuning),
    }


def _heat(tuning: Tuning, rung: Rung) -> dict[str, Any] | None:
    """The best worst case of every pair of values of the two keywords with the most values."""
    keys = sorted(
        (key for key, values in tuning.search.items() if len(values) > 1), key=lambda k: -len(tuning.search[k])
    )
    if len(keys) < 2:
        return None
    down, across = keys[:2]
    rows = [
        (_said(value), [best_of(rung.tried, {down: value, across: other}) for other in tuning.search[across]])
        for value in tuning.search[down]
    ]
    return {"down": down, "across": across, "heads": [_said(v) for v in tuning.search[across]], "rows": rows}


def _said(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _facts(tuning: Tuning) -> list[tuple[str, str]]:
    facts: Sequence[tuple[str, object]] = [
        ("encoder", tuning.encoder),
        ("model", tuning.model),
        ("weights", tuning.weights),
        ("defence", tuning.defense),
        ("fixed", ", ".join(f"{key}={_said(value)}" for key, value in tuning.fixed.items())),
        *((f"searched: {key}", ", ".join(map(_said, values))) for key, values in tuning.search.items()),
        ("settings tried", f"{tuning.count:,} of {tuning.grid:,}"),
        ("clean accuracy it may lose", f"{100 * tuning.max_clean_drop:g} points"),
        *((f"attacks of {rung.name}", ", ".join(rung.attacks)) for rung in tuning.rungs),
        ("attacks × views met in the end", f"{tuning.judged.met} by the winner, {tuning.bare.met} by the bare encoder"),
        ("seed", tuning.seed),
    ]
    return [(name, str(value)) for name, value in facts if value != ""]
