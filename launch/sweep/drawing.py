"""Plots of a sweep: the worst case, or a prior's measure, over each number that was swept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from configs.values import pixels_of
from eval.pages.svg import SERIES
from eval.plots import DASHES, Series, curves
from launch.sweep.record import Line
from launch.sweep.seeds import SEED, OverSeeds, over_seeds

_MOST = 12  # lines in a plot


def number_of(text: str, *, levels: bool = False) -> float | None:
    """A swept value as a number, as it was typed; ``levels`` counts a length in pixels in 1/255."""
    if levels:
        found = pixels_of(text, "linf")
        return 255 * found if isinstance(found, float) else None
    try:
        return float(text.removesuffix("/255"))
    except ValueError:
        return None


def numeric_labels(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """Swept keys whose values are all numbers, the seed left out."""
    labels = [label for label in (settings[0] if settings else {}) if label != SEED]
    values = {label: {said[label] for said in settings} for label in labels}
    return [
        label for label in labels if len(values[label]) > 1 and all(number_of(v) is not None for v in values[label])
    ]


def worst_case_plots(lines: Sequence[Line], name: str) -> list[tuple[str, str]]:
    """(svg, label) for every number that was swept: the worst case, with its interval, or the range over seeds."""
    found = []
    for label in numeric_labels([line.settings for line in lines]):
        drawn = _series(over_seeds(lines), label)
        if drawn and len(drawn) <= _MOST:
            xlabel = f"{label}, in 1/255" if label == "eps" and _under_linf(lines) else label
            found.append((curves(drawn, f"{name}-{label.replace('.', '-')}", xlabel, "worst-case accuracy, %"), label))
    return found


def _under_linf(lines: Sequence[Line]) -> bool:
    return all(line.threat.startswith("ℓ∞") for line in lines)


def _series(groups: Sequence[OverSeeds], label: str) -> list[Series]:
    points: dict[str, list[tuple[float, float, float, float]]] = {}
    for group in groups:
        x = number_of(group.settings[label], levels=label == "eps" and _under_linf(group.lines))
        assert x is not None
        rest = ", ".join(f"{key}={value}" for key, value in group.settings.items() if key != label)
        points.setdefault(rest or "worst case", []).append((x, *_band(group)))
    return [
        Series(name, sorted(found), SERIES[i % len(SERIES)], i // len(SERIES) % len(DASHES))
        for i, (name, found) in enumerate(points.items())
        if len(found) > 1
    ]


def _band(group: OverSeeds) -> tuple[float, float, float]:
    if len(group.lines) == 1:
        worst = group.lines[0].worst
        return 100 * worst.value, 100 * worst.low, 100 * worst.high
    mean, _, low, high = group.spread("worst")
    return 100 * mean, 100 * low, 100 * high


def measure_plots(
    measures: Mapping[str, Mapping[str, float]], settings: Mapping[str, Mapping[str, str]], name: str
) -> list[tuple[str, str]]:
    """(svg, label) of the first measure of some priors over every number that was swept."""
    there = [run for run in measures if measures[run]]
    if not there:
        return []
    measure, found = next(iter(measures[there[0]])), []
    for label in numeric_labels([settings[run] for run in there]):
        points: dict[str, list[tuple[float, float, float, float]]] = {}
        for run in there:
            x, y = number_of(settings[run][label]), measures[run].get(measure)
            rest = ", ".join(f"{key}={value}" for key, value in settings[run].items() if key != label)
            if x is not None and y is not None:
                points.setdefault(rest or measure, []).append((x, y, y, y))
        drawn = [Series(rest, sorted(p), SERIES[i % len(SERIES)]) for i, (rest, p) in enumerate(points.items())]
        drawn = [line for line in drawn if len(line.points) > 1][:_MOST]
        if drawn:
            found.append((curves(drawn, f"{name}-{label.replace('.', '-')}", label, measure), label))
    return found
