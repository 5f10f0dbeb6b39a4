"""Plots of the report as inline SVG: same numbers, same bytes, colours of the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eval.pages.svg import INK, MUTED, SERIES, draw_svg
from eval.results import WORST, Result
from eval.tables import CLEAN, ROBUST, HeadlineRow, Threat
from modules.views import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from eval.card import Curve, Share

DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
MARKERS = "osD^v"


@dataclass(frozen=True)
class Series:
    """A line with its interval: ``points`` holds (x, value, low, high) in drawing units."""

    label: str
    points: Sequence[tuple[float, float, float, float]]
    colour: str
    dash: int = 0


def forest(rows: Sequence[HeadlineRow], name: str) -> str:
    """Per encoder and defense, from the top: the worst case, the adaptive and the transfer number, with intervals."""
    rows = [r for r in rows if any(_estimates(r))]

    def draw(ax: Axes) -> None:
        for y, row in enumerate(rows):
            found = _estimates(row)
            values = [100 * r.value for r in found if r]
            ax.plot(values, [y] * len(values), color=MUTED, lw=2.2, alpha=0.45, zorder=1)
            for result, (_, colour, marker), shift in zip(found, _ESTIMATES, _SHIFTS, strict=True):
                if result is None:
                    continue
                face = "none" if result.artefact else colour
                ax.scatter([100 * result.value], [y + shift], s=42, c=face, marker=marker, edgecolors=colour, zorder=2)
                ax.hlines(y + shift, 100 * result.low, 100 * result.high, colour, lw=0.9, zorder=1)
        for label, colour, marker in _ESTIMATES:
            ax.scatter([], [], s=36, c=colour, marker=marker, label=label)
        ax.set_yticks(range(len(rows)), [_short(r.name) for r in rows], color=INK)
        ax.set(ylim=(len(rows) - 0.4, -0.6), xlim=(-2, 102), xlabel="accuracy, %")
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="y", visible=False)

    text = "; ".join(f"{r.name}: {', '.join(_in_words(r))}" for r in rows)
    size = (6.4, 1.45 + 0.5 * len(rows))
    return draw_svg(draw, name, f"Worst-case, adaptive and transfer accuracy. {text}", size)


_ESTIMATES = (
    ("worst case: everything that was tried", SERIES[2], "s"),
    ("adaptive: through the defense", SERIES[1], "D"),
    ("transfer: past the defense", SERIES[0], "o"),
)
_SHIFTS = (-0.24, 0.0, 0.24)


def _estimates(row: HeadlineRow) -> tuple[Result | None, ...]:
    return row.worst, row.adaptive, row.transfer


def _in_words(row: HeadlineRow) -> list[str]:
    names = ("worst case", "adaptive", "transfer")
    shown = zip(names, _estimates(row), strict=True)
    return [f"{name} {100 * result.value:.1f} %" for name, result in shown if result]


def over_eps(rows: Sequence[Result], threat: Threat, steps: Mapping[Any, int], name: str) -> str:
    """Accuracy over the radius at the last step; empty below two radii.

    Each line is one measurement at all its radii, never a mixture: the worst case where it was
    taken at as many radii as any attack, else the attack and view with the most radii.
    """
    task, dataset, norm, _ = threat
    last = [r for r in rows if r.step == steps.get((task, dataset, r.encoder))]
    here = [r for r in last if (r.task, r.dataset) == (task, dataset)]
    lines: list[Result] = []
    for system in dict.fromkeys((r.encoder, r.defense) for r in here):
        mine = [r for r in here if (r.encoder, r.defense) == system]
        attacked = [r for r in mine if r.metric == ROBUST and r.norm == norm]
        widest = _widest([r for r in attacked if r.view != View.released])
        if len({r.eps for r in widest}) > 1:
            lines += [*(r for r in mine if r.metric == CLEAN), *widest]
    if not lines:
        return ""
    named = {(r.encoder, r.defense): f" · {r.attack}, {r.view}" for r in lines if r.metric == ROBUST}
    named = {system: how if WORST not in how else "" for system, how in named.items()}
    drawn = series(lines, lambda r: 255 * r.eps, named)
    return curves(drawn, name, "eps, in 1/255", "accuracy under attack, %")


def _widest(rows: Sequence[Result]) -> list[Result]:
    """The rows of the attack and view at the most radii; of several the worst case wins."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for row in rows:
        groups.setdefault((row.attack, row.view), []).append(row)

    def rank(group: list[Result]) -> tuple[int, bool, float]:
        strength = -sum(r.value for r in group)
        return len({r.eps for r in group}), group[0].attack == WORST, strength

    return max(groups.values(), key=rank, default=[])


def over_steps(rows: Sequence[Result], threat: Threat, name: str) -> str:
    """Worst-case accuracy over training steps inside one threat; empty below two steps."""
    worst = [
        r for r in rows if (r.task, r.dataset, r.norm, r.eps) == threat and r.attack == WORST and r.metric == ROBUST
    ]
    lines = [line for line in series(worst, lambda r: r.step) if len(line.points) > 1]
    return curves(lines, name, "training step", "worst-case accuracy, %") if lines else ""


def series(
    rows: Sequence[Result],
    x: Callable[[Result], float],
    how: Mapping[tuple[str, str], str] | None = None,
) -> list[Series]:
    """One line per encoder and defence: colour tells encoders apart, dashes defences.

    Args:
        rows: the numbers.
        x: where on the axis a number stands.
        how: words to add to the label of an (encoder, defence).
    """
    encoders = list(dict.fromkeys(r.encoder for r in rows))
    defences = sorted(dict.fromkeys(r.defense for r in rows), key=lambda d: d != "none")
    lines = []
    for i, encoder in enumerate(encoders):
        for j, defence in enumerate(defences):
            mine = [r for r in rows if (r.encoder, r.defense) == (encoder, defence)]
            if not mine:
                continue
            label = encoder if defence == "none" else f"{encoder} + {defence}"
            label += (how or {}).get((encoder, defence), "")
            artefact = any(r.artefact for r in mine)
            colour = SERIES[(j if len(encoders) == 1 else i) % len(SERIES)]
            points = sorted((x(r), 100 * r.value, 100 * r.low, 100 * r.high) for r in mine)
            lines.append(
                Series(
                    label + " (artefact)" * artefact,
                    points,
                    MUTED if artefact else colour,
                    2 if artefact else 0 if len(encoders) == 1 else j,
                )
            )
    return lines


def over_strength(found: Sequence[Curve], clean: Share, name: str) -> str:
    """A scorecard's curves over one kind of strength; over eps they start at the clean accuracy."""
    over, lines = found[0].over, []
    for i, curve in enumerate(found):
        points = [(0.0, clean), *(p for p in curve.points if p[0] > 0)] if over == "eps" else curve.points
        x = 255 if over == "eps" else 1
        drawn = [(x * at, 100 * s.value, 100 * s.low, 100 * s.high) for at, s in points]
        lines.append(Series(f"{curve.attack}, {curve.view}", drawn, SERIES[i % len(SERIES)], i // len(SERIES)))
    ticks = sorted({at for line in lines for at, *_ in line.points}) if over != "eps" else ()
    return curves(lines, name, "eps, in 1/255" if over == "eps" else over, "accuracy under attack, %", ticks)


def curves(lines: Sequence[Series], name: str, xlabel: str, ylabel: str, doublings: Sequence[float] = ()) -> str:
    """Lines with interval bands over a common axis; one of ``doublings`` has its ticks there."""

    def draw(ax: Axes) -> None:
        for line in lines:
            x, y, low, high = zip(*line.points, strict=True)
            marker = MARKERS[line.dash % len(MARKERS)] if len(x) <= 20 else ""
            style = {"color": line.colour, "ls": DASHES[line.dash % len(DASHES)], "lw": 1.6}
            named = len(lines) > 1 or "%" in ylabel  # a lone loss needs no legend
            label = _short(line.label) if named else None
            ax.plot(x, y, marker=marker, ms=3.6, label=label, **style)
            if low != high:
                ax.fill_between(x, low, high, color=line.colour, alpha=0.11, lw=0)
        ax.set(xlabel=xlabel, ylabel=ylabel)
        if "%" in ylabel:
            ax.set_ylim(-2, 102)
        if doublings and min(doublings) > 0:
            ax.set_xscale("log", base=2)
            ax.minorticks_off()
            ax.set_xticks(doublings, [f"{at:g}" for at in doublings])

    text = "; ".join(
        f"{line.label}: {line.points[0][1]:.3g} at {line.points[0][0]:g}, "
        f"{line.points[-1][1]:.3g} at {line.points[-1][0]:g}"
        for line in lines
    )
    size = (4.9, 2.7 + 0.2 * ((len(lines) + 1) // 2))
    return draw_svg(draw, name, f"{ylabel} over {xlabel}. {text}", size)


def averaged(points: Sequence[tuple[float, float]], count: int = 200) -> list[tuple[float, float]]:
    """The points, averaged in runs of neighbours into at most ``count``."""
    width = max(1, -(-len(points) // count))
    bins = [points[k : k + width] for k in range(0, len(points), width)]
    return [(sum(x for x, _ in b) / len(b), sum(y for _, y in b) / len(b)) for b in bins]


def histogram(entry: Mapping[str, Any], name: str) -> str:
    """Two overlaid histograms, the decision threshold and its side."""
    first, second = entry["values"]
    low, high = min(*first, *second), max(*first, *second)
    width = (high - low) / 30 or 1.0
    edges = [low + width * i for i in range(31)]

    def draw(ax: Axes) -> None:
        for values, label, colour in zip((first, second), entry["labels"], SERIES, strict=False):
            ax.hist(values, edges, color=colour, alpha=0.5, label=_short(str(label)))
        threshold = entry.get("threshold")
        if threshold is not None:
            side = entry.get("direction", "below")
            ends = (low - width, threshold) if side == "below" else (threshold, edges[-1] + width)
            ax.axvspan(*ends, color=MUTED, alpha=0.1, lw=0, label=f"{side} the threshold {threshold:.3g}")
            ax.axvline(threshold, color=INK, lw=1)
        ax.set(xlabel="score", ylabel="images")

    area = f"; area under ROC {entry['auc']:.3f}" if entry.get("auc") is not None else ""
    text = f"Histogram of {entry['labels'][0]} and {entry['labels'][1]}{area}"
    return draw_svg(draw, name, text, (4.9, 2.9))


def _short(label: str, limit: int = 44) -> str:
    label = " " + label if label.startswith("_") else label  # matplotlib hides "_x" from legends
    return label if len(label) <= limit else label[: limit - 1] + "…"
