"""Plots of a prior's training as inline SVG, published healthy ranges drawn as bands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eval.pages.svg import MUTED, SERIES, draw_svg
from eval.plots import DASHES, averaged
from eval.prior_health import BASELINE, LIVE, LOSS, TEXT, Measure
from eval.prior_record import Curve, PriorRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAIN = "train/loss"
_DENOISING = re.compile(r"val/denoising/(\d+)-(\d+)")


@dataclass(frozen=True)
class _Line:
    label: str
    curve: Curve
    colour: int


def prior_figures(record: PriorRecord, name: str) -> list[tuple[str, str]]:
    """(SVG, caption) of the loss, of every measure over the steps, and of the loss over the timesteps.

    Args:
        record: of the run.
        name: prefix of the drawings' ids.
    """
    found = [
        (_losses(record, f"{name}-loss"), "Loss, mean squared error per number of the embedding, averaged over steps")
    ]
    for number, measure in enumerate(record.measures):
        curve = record.curves.get(measure.name, [])
        if measure.name in (LOSS.name, LIVE.name, BASELINE.name) or not curve:
            continue
        lines = [_Line(measure.label.lower(), curve, 0)]
        if measure.name == TEXT.name:
            lines.append(_Line("image with text (baseline)", record.curves.get(BASELINE.name, []), 1))
        svg = _drawn(lines, measure, f"{name}-m{number}", "training step", "cosine")
        found.append((svg, measure.label + (f" · healthy: {measure.healthy}" if measure.healthy else "")))
    found.append((_timesteps(record, f"{name}-t"), "Error of the predicted embedding by timestep, with the text"))
    return [(svg, caption) for svg, caption in found if svg]


def _losses(record: PriorRecord, name: str) -> str:
    named = (
        (TRAIN, "training"),
        (LOSS.name, "held-out, moving average"),
        (LIVE.name, "held-out, live weights"),
    )
    lines = [_Line(label, averaged(record.curves.get(key, [])), i) for i, (key, label) in enumerate(named)]
    measure = next(measure for measure in record.measures if measure.name == LOSS.name)
    return _drawn(lines, measure, name, "training step", "loss")


def _timesteps(record: PriorRecord, name: str) -> str:
    """The denoising loss over the timesteps at the last validation, and at the first one of a trained prior."""
    parts = {key: found for key in record.curves if (found := _DENOISING.fullmatch(key))}
    steps = sorted({step for key in parts for step, _ in record.curves[key]})
    shown = list(dict.fromkeys([*steps[1:2], *steps[-1:]]))
    lines = []
    for colour, step in enumerate(shown):
        curve = []
        for key, found in parts.items():
            middle = (int(found[1]) + int(found[2])) / 2
            curve += [(middle, value) for at, value in record.curves[key] if at == step]
        lines.append(_Line(f"step {step:,.0f}", sorted(curve), colour))
    return _drawn(lines, None, name, "timestep", "denoising loss")


def _drawn(lines: Sequence[_Line], measure: Measure | None, name: str, xlabel: str, ylabel: str) -> str:
    lines = [line for line in lines if line.curve]
    if not lines:
        return ""

    def draw(ax: Axes) -> None:
        for line in lines:
            x, y = zip(*line.curve, strict=True)
            marker = "o" if len(x) <= 20 else ""
            ax.plot(
                x, y, marker=marker, ms=3.6, lw=1.6, color=SERIES[line.colour], ls=DASHES[line.colour], label=line.label
            )
        if measure is not None and measure.healthy:
            low, high = ax.get_ylim()
            low = min(low, measure.low if measure.low is not None else low)
            high = max(high, measure.high if measure.high is not None else high, measure.low or high)
            ends = (low if measure.low is None else measure.low, high if measure.high is None else measure.high)
            ax.axhspan(*ends, color=MUTED, alpha=0.16, lw=0, label=f"healthy: {measure.healthy}")
            ax.set_ylim(low, high)
        ax.set(xlabel=xlabel, ylabel=ylabel)

    ends = [(line.label, *line.curve[0], *line.curve[-1]) for line in lines]
    said = "; ".join(f"{label}: {y:.3g} at {x:g}, {last:.3g} at {end:g}" for label, x, y, end, last in ends)
    return draw_svg(draw, name, f"{ylabel} over {xlabel}. {said}", (4.9, 2.7 + 0.2 * ((len(lines) + 2) // 2)))
