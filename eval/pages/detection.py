"""The section about gates as detectors: a table, curves and histograms of scores, and a sentence for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval import plots
from eval.detectors import Detector, detectors, in_words
from eval.merge import PREFIX
from eval.outcomes import Cell, Outcomes, read_header, read_outcomes
from eval.pages.render import trusted
from eval.pages.runs import Run
from eval.pages.svg import MUTED, SERIES, draw_svg
from eval.results import Result
from eval.roc import roc
from eval.rows import Rows
from eval.tables import percent, plain, threat_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Scores = dict[Cell, list[float]]


def detection_section(runs: Sequence[Run], rows: Sequence[Result]) -> list[dict[str, Any]]:
    """What the template shows of each detector; empty where there is none.

    Curves and histograms need the scores of single images, which lie in the run's folder beside its rows.

    Args:
        runs: their folders.
        rows: of all of them.

    Raises:
        ConfigError: a file of scores is damaged.
    """
    found = detectors(rows)
    kept = {key: scores for run in runs for key, scores in _scores(run).items()} if found else {}
    return [_shown(detector, kept, f"d{i}") for i, detector in enumerate(found)]


def _shown(detector: Detector, kept: dict[tuple[str, str, str], Scores], name: str) -> dict[str, Any]:
    scores = kept.get((detector.encoder, detector.dataset, detector.defense), {})
    clean = scores.get(Cell(detector.defense), [])
    sides = {
        (line.attack, line.view): scores.get(Cell(detector.defense, line.attack, line.view, detector.eps), [])
        for line in detector.lines
    }
    sides = {place: scores for place, scores in sides.items() if scores and clean}
    worst = detector.lowest(lambda line: line.auc)
    figures = []
    if sides:
        figures.append((trusted(curve(clean, sides, f"{name}-roc")), "One curve for each attack and view"))
    if worst and (worst.attack, worst.view) in sides:
        entry = {
            "labels": ["clean", "attacked"],
            "values": [clean, sides[worst.attack, worst.view]],
            "threshold": 0.0,
            "direction": "above",
        }
        svg = trusted(plots.histogram(entry, f"{name}-scores"))
        figures.append((svg, f"How far images open the gate: {worst.attack} through the {worst.view} view"))
    where = f"{detector.dataset} · {threat_name(detector.norm, detector.eps)}"
    return {
        "name": detector.name,
        "where": where,
        "detector": detector,
        "words": in_words(detector),
        "figures": figures,
    }


def curve(clean: Sequence[float], sides: dict[tuple[str, str], list[float]], name: str) -> str:
    """ROC curves of attacked against clean scores, one for each (attack, view)."""
    drawn = {f"{attack}, {view}": roc(clean, attacked) for (attack, view), attacked in sides.items()}

    def draw(ax: Axes) -> None:
        ax.plot([0, 100], [0, 100], color=MUTED, lw=0.8, ls=(0, (1, 2)))
        for i, (label, line) in enumerate(drawn.items()):
            look = plots.DASHES[i // len(SERIES) % len(plots.DASHES)]
            x, y = (100 * line.false_alarms, 100 * line.caught)
            ax.plot(x, y, color=SERIES[i % len(SERIES)], ls=look, lw=1.6, label=label)
        ax.set(xlabel="clean images flagged, %", ylabel="attacked images flagged, %", xlim=(-2, 102), ylim=(-2, 102))

    at = "; ".join(f"{label}: {percent(_caught(line, 0.05))} %" for label, line in drawn.items())
    size = (4.9, 3.6 + 0.2 * ((len(drawn) + 1) // 2))
    return draw_svg(draw, name, f"ROC curves; attacked images flagged where 5 % of clean ones are: {at}", size)


def _caught(line: Any, fpr: float) -> float:
    return float(line.caught[line.false_alarms <= fpr].max())


def _scores(run: Run) -> dict[tuple[str, str, str], Scores]:
    """(encoder as the rows call it, data set, defence) -> the scores of each cell."""
    found: dict[tuple[str, str, str], Scores] = {}
    for file in sorted(run.folder.glob(PREFIX + "*.json")):
        named = _named(file, run)
        if named is None:
            continue
        for cell, scores in _of(file).scores.items():
            there = [score for score in scores if score is not None]
            place = Cell(plain(cell.defense), plain(cell.attack), plain(cell.view), cell.eps)
            found.setdefault((*named, place.defense), {})[place] = there
    return found


def _named(file: Path, run: Run) -> tuple[str, str] | None:
    try:
        rows = Rows.from_json(read_header(file)["rows"])
    except (KeyError, TypeError):
        return None  # of a version that did not say
    encoder, dataset = plain(rows.subject.encoder), plain(rows.dataset)
    told = {row.encoder for row in run.rows}
    return (encoder if encoder in told else f"{encoder} ({run.label})"), dataset


def _of(file: Path) -> Outcomes:
    return read_outcomes(file)
