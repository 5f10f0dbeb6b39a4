"""The part of a report that is about speed: what benchmarks found beside others that do the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eval.pages.render import trusted
from eval.pages.svg import INK, MUTED, SERIES, draw_svg
from eval.speed import Speed

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def speed_sections(found: Sequence[tuple[str, Speed]]) -> list[dict[str, Any]]:
    """What the template needs to know of benchmarks.

    Args:
        found: a run's label, and what its benchmarks found.
    """
    return [
        {
            "label": label,
            "about": [(name, str(value)) for name, value in speed.about.items()],
            "records": [
                {
                    "name": one.name,
                    "what": one.what,
                    "rows": one.told(),
                    "seconds": [
                        (case, *(f"{1e3 * part:,.1f}" for part in (taken.median, taken.low, taken.high)))
                        for case, taken in one.timings.items()
                    ],
                    "figure": _figure(one.name, one.ratios, f"b{number}-{place}"),
                }
                for place, one in enumerate(speed.records)
            ],
        }
        for number, (label, speed) in enumerate(found)
    ]


def _figure(name: str, ratios: Mapping[str, float], prefix: str) -> Any:
    """The ratios on one logarithmic scale around 1; nothing where there are fewer than two."""
    shown = [(key, value) for key, value in ratios.items() if value > 0]
    if len(shown) < 2:
        return ""

    def draw(ax: Axes) -> None:
        for y, (_, value) in enumerate(shown):
            ax.plot([1, value], [y, y], color=MUTED, lw=2.2, alpha=0.45, zorder=1)
            ax.scatter([value], [y], s=42, c=SERIES[0], zorder=2)
            side, away = ("left", 6) if value >= 1 else ("right", -6)
            told: dict[str, Any] = {"textcoords": "offset points", "ha": side, "va": "center", "color": INK}
            ax.annotate(f"{value:.2f}x", (value, y), xytext=(away, 0), **told)
        ax.axvline(1, color=MUTED, lw=1)
        ax.set_xscale("log")
        least, most = min(v for _, v in shown), max(v for _, v in shown)
        low, high = min(least, 1) / 1.7, max(most, 1) * 1.7
        ticks = [tick for power in range(-6, 7) for tick in (10.0**power * m for m in (1, 2, 5)) if low <= tick <= high]
        ax.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
        ax.minorticks_off()
        ax.set(xlim=(low, high), ylim=(len(shown) - 0.4, -0.6))
        ax.set_yticks(range(len(shown)), [key.replace("_", " ") for key, _ in shown], color=INK)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="y", visible=False)

    text = f"Ratios of {name}: " + ", ".join(f"{key} {value:.2f}" for key, value in shown)
    return trusted(draw_svg(draw, prefix, text, (6.4, 0.6 + 0.3 * len(shown))))
