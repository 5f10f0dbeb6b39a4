"""The part of a report that is about trainings: what they told of themselves, step by step and on average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eval.pages.render import trusted
from eval.pages.runs import Run
from eval.pages.svg import SERIES
from eval.plots import Series, averaged, curves
from eval.prior_record import Curve

_WAITS = 0.1  # share of the time above which waiting for data is worth a word


@dataclass(frozen=True)
class Told:
    """A number that a training tells.

    Attributes:
        name: column of ``metrics.csv`` or ``perf.csv``.
        label: in words.
        axis: of its drawing; empty where none is drawn.
        shown: how it is written.
        scale: it is multiplied by.
    """

    name: str
    label: str
    axis: str = ""
    shown: str = ".4g"
    scale: float = 1.0


TOLD = (
    Told("train/loss", "Training loss", "training loss"),
    Told("train/grad_norm", "Norm of the gradient, before it is clipped", "gradient norm"),
    Told("train/attack_gain", "What the attack gains: its loss at the end minus at the start", "gain of the attack"),
    Told("train/cosine", "Cosine of perturbed embeddings with the original ones of the clean images", "cosine"),
    Told("perf/images_per_s", "Images a second", "images a second"),
    Told(
        "perf/data_wait_share", "Time in which it waited for data, %", "waiting for data, % of the time", ".1f", 100.0
    ),
    Told("perf/memory_gb", "Peak memory of a process, GB"),
    Told("perf/tflops", "TFLOP/s of a device"),
    Told("perf/mfu", "Share of the device's peak, %", shown=".1f", scale=100.0),
)


def training_section(runs: Sequence[Run], name: str = "l") -> dict[str, Any] | None:
    """What the template needs to know of the trainings among the runs; None where there is none.

    Args:
        runs: of any kind.
        name: prefix of the drawings' ids.
    """
    trained = [run for run in runs if any(told.name in run.curves for told in TOLD)]
    if not trained:
        return None
    figures = [(_figure(trained, told, f"{name}{number}"), told.label) for number, told in enumerate(TOLD)]
    return {
        "figures": [(trusted(svg), label) for svg, label in figures if svg],
        "runs": [run.label for run in trained],
        "rows": [row for told in TOLD if (row := _row(trained, told))],
        "words": [word for run in trained for word in _words(run, alone=len(trained) == 1)],
    }


def _curve(run: Run, told: Told) -> Curve:
    """The steps and values of a run; the first line of a speed is left out, for it is that of a start."""
    found = run.curves.get(told.name, [])
    return found[1:] if told.name.startswith("perf/") and len(found) > 1 else found


def _figure(runs: Sequence[Run], told: Told, name: str) -> str:
    if not told.axis:
        return ""
    lines = []
    for number, run in enumerate(runs):
        drawn_elsewhere = told.name == "train/loss" and run.prior is not None
        points = [(x, told.scale * y) for x, y in averaged(_curve(run, told))]
        if points and not drawn_elsewhere:
            colour = SERIES[number % len(SERIES)]
            lines.append(Series(run.label, [(x, y, y, y) for x, y in points], colour, number // len(SERIES)))
    return curves(lines, name, "training step", told.axis) if lines else ""


def _row(runs: Sequence[Run], told: Told) -> tuple[str, list[tuple[str, str]]] | None:
    """(label, (mean, last value) of each run); None where no run has it."""
    cells = []
    for run in runs:
        values = [told.scale * value for _, value in _curve(run, told)]
        shown = [f"{value:{told.shown}}" for value in (sum(values) / len(values), values[-1])] if values else ["–", "–"]
        cells.append((shown[0], shown[1]))
    return (told.label, cells) if any(mean != "–" for mean, _ in cells) else None


def _words(run: Run, *, alone: bool) -> list[str]:
    """What stands out."""
    found, who = [], "The training" if alone else run.label
    waits = [value for _, value in run.curves.get("perf/data_wait_share", [])[1:]]
    if waits and sum(waits) / len(waits) > _WAITS:
        share = 100 * sum(waits) / len(waits)
        found.append(f"{who} waited for data {share:.0f} % of its time: more data.workers make it faster.")
    gains = run.curves.get("train/attack_gain", [])
    if gains and all(gain <= 0 for _, gain in gains):
        found.append(f"{who} had an attack that never gained anything: look at attack and threat.")
    return found
