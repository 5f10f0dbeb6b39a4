"""The gradient-health panel: each measure with its bar, its limit, and what it means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, isnan

from eval.card import Health
from eval.checks.gradients import LARGE, REVERSED, SIDEWAYS, SMALL, UNTRUE, ZEROS
from modules.views import is_view


@dataclass(frozen=True)
class Measure:
    """A column of the panel.

    Attributes:
        field: of ``Health``.
        title: of the column.
        meaning: what it is and where it becomes suspicious, in words.
        odd: whether a value of a view is past its limit.
        unit: written behind the number.
        scale: what the number is multiplied with before it is written.
    """

    field: str
    title: str
    meaning: str
    odd: Callable[[float, str], bool]
    unit: str = ""
    scale: float = 1.0


@dataclass(frozen=True)
class Bar:
    """One cell: text, how full its bar is (0..1; None: no bar), and whether it is past its limit."""

    text: str
    full: float | None
    odd: bool


MEASURES = (
    Measure(
        "norm_ratio",
        "length",
        f"Median length of the gradient as a multiple of the bare encoder’s. Below {SMALL:g} an attack hardly feels "
        f"where to go; above {LARGE:,.0f} the way is too rugged for steps.",
        lambda value, _: not SMALL <= value <= LARGE,
        " ×",
    ),
    Measure(
        "zeros",
        "zero pixels",
        f"Share of pixels whose gradient is exactly zero. Above {100 * ZEROS:.0f} % much of the image is out of reach.",
        lambda value, _: not value <= ZEROS,
        " %",
        100,
    ),
    Measure(
        "dead",
        "dead images",
        "Share of images whose whole gradient is zero: whoever follows it never moves them. None should be.",
        lambda value, _: not value <= 0,
        " %",
        100,
    ),
    Measure(
        "not_finite",
        "not finite",
        "Share of images with an infinite or undefined gradient. None should be.",
        lambda value, _: not value <= 0,
        " %",
        100,
    ),
    Measure(
        "cosine_bare",
        "along bare",
        "Mean cosine to the bare encoder’s gradient: 1 is the same direction, 0 has nothing in common with it. Below "
        f"{REVERSED:g} attacks walk away from what fools the encoder; within {SIDEWAYS:g} of 0 they follow something "
        "else.".replace("-", "−"),
        lambda value, view: isnan(value) or (is_view(view, "exact") and (value < REVERSED or abs(value) < SIDEWAYS)),
    ),
    Measure(
        "cosine_bpda",
        "along bpda",
        "Mean cosine to the gradient with the defence passed straight through. It has no limit of its own.",
        lambda value, _: isnan(value),
    ),
    Measure(
        "difference_error",
        "error",
        "Median relative error against finite differences of the defence’s own loss. A right gradient stays far below "
        f"{UNTRUE:g}; views that stand in for it, such as bpda, are wrong here by design and not marked.",
        lambda value, view: is_view(view, "exact") and not value <= UNTRUE,
    ),
)


def panel(health: Sequence[Health]) -> list[tuple[str, list[Bar]]]:
    """One line per view: its name, and one cell per measure."""
    return [(line.view, [_bar(measure, line) for measure in MEASURES]) for line in health]


def _bar(measure: Measure, line: Health) -> Bar:
    value = getattr(line, measure.field)
    if value is None:
        return Bar("–", None, False)
    full = min(max(value, 0.0), 1.0) if isfinite(value) else None
    return Bar(quantity(measure.scale * value) + measure.unit, full, measure.odd(value, line.view))


def quantity(value: float) -> str:
    """``0.83``, ``12.5``, ``3e-05``: a number in few digits, with words where it is none."""
    if not isfinite(value):
        return "undefined" if isnan(value) else "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if abs(value) < 0.005:
        return f"{value:.1g}"
    shown = f"{value:.2f}" if abs(value) < 10 else f"{value:,.1f}" if abs(value) < 1000 else f"{value:.3g}"
    return shown.replace("-", "−")
