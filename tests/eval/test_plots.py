from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from eval import plots
from eval.metrics import wilson
from eval.results import Result
from eval.tables import final_steps, headline, main_threats
from tests.waiting import CEILING


def row(attack: str, view: str, value: float, **changes: object) -> Result:
    metric = "clean_accuracy" if attack == "none" else "robust_accuracy"
    plain = Result(
        *("classification", "digits", 100, "w.pt", 0, "CLIP", "none", attack, view, "linf"),
        *(0.0 if attack == "none" else 4 / 255, metric, value, *wilson(round(value * 100), 100)),
        *(1.0, 0, "c0ffee", ""),
    )
    return replace(plain, **changes)  # pyright: ignore[reportArgumentType]


def drawn(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("xlink:href", "href"))


def positions(svg: str, colour: int) -> Sequence[tuple[float, float]]:
    """Where the markers of one colour stand, in drawing units."""
    pattern = rf'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="[^"]*var\(--s{colour}\)'
    axes = svg[: svg.index('id="d-legend_1"')]
    return [(float(x), float(y)) for x, y in re.findall(pattern, axes)]


def filled(svg: str) -> int:
    axes = svg[: svg.index('id="d-legend_1"')]
    return len(re.findall(r'<use [^>]*style="fill: var\(--s\d\)', axes))


def ttc(transfer: float, adaptive: float) -> list[Result]:
    ends = (("pgd", "transfer", transfer), ("apgd", "bpda", adaptive))
    return [row(*end, defense="ttc") for end in ends]


def test_numbers_of_the_forest_plot_lie_where_the_numbers_are() -> None:
    svg = plots.forest(headline([*ttc(0.6, 0.2), row("pgd", "adaptive", 0.2)]), "d")
    ((transfer, _),) = positions(svg, 0)
    adaptive = sorted(positions(svg, 1), key=lambda p: p[1])
    assert adaptive[0][0] == pytest.approx(adaptive[1][0])
    reference = plots.forest(headline(ttc(1.0, 0.0)), "d")
    ((right, _),), ((left, _),) = positions(reference, 0), positions(reference, 1)
    other = plots.forest(headline(ttc(0.6, 0.2)), "d")
    ((x, _),) = positions(other, 0)
    assert (x - left) / (right - left) == pytest.approx(0.6, abs=1e-3)
    assert transfer > adaptive[0][0]
    assert "transfer 60.0 %" in svg


def test_the_forest_plot_shows_the_worst_case_first() -> None:
    svg = plots.forest(headline([*ttc(0.6, 0.2), row("worst", "worst", 0.1, defense="ttc")]), "d")
    places = [positions(svg, colour)[0] for colour in (2, 1, 0)]  # worst case, adaptive, transfer
    assert [y for _, y in places] == sorted(y for _, y in places), "from the top"
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    legend = [svg.index(f">{word}") for word in ("worst case:", "adaptive:", "transfer:")]
    assert legend == sorted(legend)
    assert "CLIP + ttc: worst case 10.0 %, adaptive 20.0 %, transfer 60.0 %" in svg


def test_a_system_with_a_worst_case_alone_is_in_the_forest_plot() -> None:
    svg = plots.forest(headline([row("worst", "worst", 0.1), row("pgd", "transfer", 0.1)]), "d")
    assert len(positions(svg, 2)) == 1 and not positions(svg, 0) and "CLIP: worst case 10.0 %" in svg


def test_an_artefact_is_drawn_hollow() -> None:
    sound = plots.forest(headline(ttc(0.6, 0.2)), "d")
    planted = [replace(r, artefact="legacy") for r in ttc(0.6, 0.2)]
    assert filled(sound) == 2
    assert filled(plots.forest(headline(planted), "d")) == 0


def test_curves_over_eps_need_two_radii() -> None:
    rows = [row("none", "none", 0.9), row("worst", "worst", 0.4)]
    (threat,) = [t for t in main_threats(rows)]
    assert plots.over_eps(rows, threat, final_steps(rows), "e") == ""
    rows.append(row("worst", "worst", 0.1, eps=8 / 255))
    svg = plots.over_eps(rows, threat, final_steps(rows), "e")
    assert "CLIP: 90 at 0, 10 at 8" in svg


def test_a_curve_over_eps_never_mixes_measurements() -> None:
    radii = [(2, 0.7), (4, 0.5), (8, 0.2)]
    rows = [row("apgd", "eot", value, eps=e / 255) for e, value in radii]
    rows += [row("pgd", "eot", 0.1), row("worst", "worst", 0.05), row("none", "none", 0.9)]
    rows += [row("apgd", "released", 0.0, eps=e / 255) for e, _ in radii]
    svg = plots.over_eps(rows, main_threats(rows)[0], final_steps(rows), "d")
    assert "CLIP · apgd, eot: 90 at 0, 20 at 8" in svg
    ys = sorted(y for x, y in positions(svg, 0) if x > 0)  # the band stands at 0
    assert len(ys) == 4
    assert (ys[2] - ys[0]) / (ys[3] - ys[0]) == pytest.approx(0.4 / 0.7, abs=1e-3)


def test_curves_over_steps_need_two_steps() -> None:
    rows = [row("worst", "worst", 0.4), row("worst", "worst", 0.5, encoder="RN", step=9)]
    (threat,) = main_threats(rows)
    assert plots.over_steps(rows, threat, "s") == ""
    rows.append(row("worst", "worst", 0.6, encoder="RN", step=20))
    svg = plots.over_steps(rows, threat, "s")
    assert "RN: 50 at 9, 60 at 20" in svg
    assert "CLIP" not in svg


def test_series_of_artefacts_are_grey_and_say_so() -> None:
    rows = [row("worst", "worst", 0.9, artefact="legacy", eps=e / 255) for e in (2, 4)]
    (line,) = plots.series(rows, lambda r: 255 * r.eps)
    assert line.colour == plots.MUTED
    assert line.label.endswith("(artefact)")


def test_a_long_loss_keeps_its_mean_in_few_points() -> None:
    points = plots.averaged([(float(s), float(s % 2)) for s in range(2000)])
    assert len(points) == 200 and {y for _, y in points} == {0.5} and points[0][0] == 4.5
    assert plots.averaged([]) == []


def test_histogram_names_its_sides_and_threshold() -> None:
    entry = {"labels": ["clean", "<b>"], "values": [[0.1, 0.2], [0.3]], "threshold": 0.25}
    svg = plots.histogram({**entry, "direction": "above", "auc": 1.0}, "h")
    assert "above the threshold 0.25" in svg
    assert "area under ROC 1.000" in svg
    assert "<b>" not in svg


def test_equal_values_still_make_a_histogram() -> None:
    entry = {"labels": ["a", "b"], "values": [[1.0], [1.0]], "threshold": 1.0}
    assert drawn(plots.histogram(entry, "h")).tag == "svg"


@pytest.mark.parametrize("label", ["</text><script>", "$x_1$ $", "_hidden", "漢字", 'id="x" #010301'])
def test_any_name_is_drawn_as_it_is(label: str) -> None:
    lines = [plots.Series(name, [(0, 1, 1, 2), (1, 2, 1, 3)], plots.SERIES[0]) for name in (label, "b")]
    element = drawn(plots.curves(lines, "c", "x", "y"))
    assert label in [(text.text or "").strip() for text in element.iter("text")]


def test_drawings_hold_no_address_no_date_and_no_fixed_colour() -> None:
    svg = plots.forest(headline(ttc(0.6, 0.2)), "d")
    assert "http" not in svg
    assert "metadata" not in svg
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) == set()
    assert "var(--s0)" in svg and "var(--ink)" in svg
    ids = set(re.findall(r'\bid="([^"]+)"', svg))
    assert ids and all(name.startswith("d-") for name in ids)


def test_drawing_leaves_the_settings_of_matplotlib_alone() -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 31, "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        svg = plots.forest(headline(ttc(0.6, 0.2)), "d")
        assert dict(matplotlib.rcParams) == before
    assert svg == plots.forest(headline(ttc(0.6, 0.2)), "d")


def test_matplotlib_is_imported_only_to_draw() -> None:
    code = "import sys, eval.plots, eval.report, eval.tables; assert 'matplotlib' not in sys.modules"
    root = Path(plots.__file__).parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=CEILING)
