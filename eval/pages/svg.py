"""Matplotlib drawings as inline SVG in the colours of the page, light or dark."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Placeholders that matplotlib draws with; `_inline` turns them into the page's own colours.
INK, MUTED, LINE = "#010201", "#010202", "#010203"
SERIES = tuple(f"#0103{i:02x}" for i in range(1, 7))
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "robustclip",
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 9,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "legend.frameon": False,
}


def draw_svg(draw: Callable[[Axes], object], name: str, text: str, size: tuple[float, float]) -> str:
    """What ``draw`` puts on an axes, as an SVG element without any reference to the outside.

    Args:
        draw: draws on the axes it is given, in the placeholder colours above.
        name: prefix of all ids, so that several drawings can share a page.
        text: what the drawing shows, for screen readers.
        size: inches; the page scales it to its own width.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    defaults = {k: v for k, v in matplotlib.rcParamsDefault.items() if "backend" not in k}
    settings: dict[Any, Any] = {**defaults, **SETTINGS}  # not the reader's own matplotlibrc
    with (
        matplotlib.rc_context(settings),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's font has it
        figure = Figure(size, layout="constrained")
        FigureCanvasSVG(figure)
        ax = figure.add_subplot()
        draw(ax)
        if ax.get_legend_handles_labels()[1]:
            figure.legend(loc="outside lower left", ncols=2, handlelength=2.4, columnspacing=1.4)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return _inline(buffer.getvalue(), name, text)


def _inline(svg: str, name: str, text: str) -> str:
    """The drawing as an HTML element: page colours, own ids, a text for screen readers."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<defs>\s*<style.*?</defs>\s*", "", svg, flags=re.S)
    view = re.search(r'viewBox="([^"]+)"', svg)
    assert view
    svg = re.sub(r"<[^>]*>", lambda tag: _themed(tag[0], name), svg)  # tags only: text stays itself
    head = f'<svg viewBox="{view[1]}" role="img" aria-label="{html.escape(text, quote=True)}">'
    svg = re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1)
    return "\n".join(line.rstrip() for line in svg.splitlines())


def _themed(tag: str, name: str) -> str:
    tag = re.sub(r'\b(id|href)="(#?)', rf'\1="\2{name}-', tag).replace("url(#", f"url(#{name}-")
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
    tag = re.sub(r"font: [^;\"]*?([\d.]+px)[^;\"]*", r"font-size: \1", tag)
    for i, colour in enumerate(SERIES):
        tag = tag.replace(colour, f"var(--s{i})")
    for colour, variable in ((INK, "--ink"), (MUTED, "--muted"), (LINE, "--line")):
        tag = tag.replace(colour, f"var({variable})")
    return tag
