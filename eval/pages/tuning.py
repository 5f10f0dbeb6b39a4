"""Drawings of a tuning: each searched setting against what is left, and transfer against worst case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eval.pages.svg import INK, MUTED, SERIES, draw_svg
from eval.tables import percent
from eval.tuning_record import Rung, Tried

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def over_setting(rung: Rung, key: str, values: Sequence[Any], name: str) -> str:
    """Worst case and clean accuracy over the values of one searched keyword, as an SVG element.

    Every setting is a dot; the lines join the best worst case at each value, and the clean accuracy of that setting.

    Args:
        rung: in which every setting was tried.
        key: the keyword.
        values: in the order of the recipe.
        name: prefix of all ids.
    """
    best = {i: one for i, value in enumerate(values) if (one := best_of(rung.tried, {key: value}))}

    def draw(ax: Axes) -> None:
        for label, colour, of in (("worst case", SERIES[1], "worst"), ("clean", SERIES[0], "clean")):
            dots = [(values.index(one.settings[key]), 100 * getattr(one.score, of).value) for one in rung.tried]
            ax.scatter(*zip(*dots, strict=True), s=14, c=colour, alpha=0.35, linewidths=0)
            line = [(i, 100 * getattr(one.score, of).value) for i, one in best.items()]
            ax.plot(*zip(*line, strict=True), marker="o", ms=4, lw=1.6, color=colour, label=f"{label}, best setting")
        ax.axhline(100 * rung.bare.worst.value, color=INK, lw=1, ls=(0, (4, 2)), label="undefended, worst case")
        ax.set_xticks(range(len(values)), [_text(value) for value in values])
        ax.set(xlabel=key.replace("_", " "), ylabel="accuracy, %", ylim=(-2, 102), xlim=(-0.3, len(values) - 0.7))

    told = "; ".join(
        f"{_text(values[i])}: worst case {percent(one.score.worst.value)} %, clean {percent(one.score.clean.value)} %"
        for i, one in best.items()
    )
    return draw_svg(draw, name, f"Accuracy over {key}, the best setting at each value. {told}", (4.9, 3.1))


def transfer_scatter(rung: Rung, winner: str, name: str) -> str:
    """Every setting's accuracy under transferred attacks beside its worst case, as an SVG element.

    Args:
        rung: in which every setting was tried.
        winner: name of the setting that won in the end.
        name: prefix of all ids.
    """
    points = [(one, 100 * one.score.transfer.value) for one in rung.tried if one.score.transfer]

    def draw(ax: Axes) -> None:
        ax.plot([0, 100], [0, 100], color=MUTED, lw=0.8)
        for mine, colour, marker, label in (
            (False, SERIES[0], "o", "settings"),
            (True, SERIES[1], "D", "winner"),
        ):
            spots = [(x, 100 * one.score.worst.value) for one, x in points if (one.name == winner) is mine]
            if spots:
                ax.scatter(*zip(*spots, strict=True), s=30, c=colour, marker=marker, alpha=0.75, label=label, zorder=2)
        ax.axhline(100 * rung.bare.worst.value, color=INK, lw=1, ls=(0, (4, 2)), label="undefended, worst case")
        ax.set(xlim=(-2, 102), ylim=(-2, 102), xlabel="under transferred attacks, %", ylabel="worst case, %")

    most = max(points, key=lambda p: p[1] - 100 * p[0].score.worst.value, default=None)
    told = (
        f" Widest apart is {most[0].name}: {most[1]:.1f} % and {percent(most[0].score.worst.value)} %." if most else ""
    )
    return draw_svg(draw, name, f"Transfer accuracy against worst case of {len(points)} settings.{told}", (4.9, 4.4))


def best_of(tried: Sequence[Tried], wanted: dict[str, Any]) -> Tried | None:
    """The best setting among those with these values; None where there is none (``tried`` is best first)."""
    return next((one for one in tried if all(one.settings[key] == value for key, value in wanted.items())), None)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
