"""The page of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.files import write_atomically
from eval.pages.render import render, style, trusted
from eval.tables import percent, plain
from launch.sweep.drawing import measure_plots, worst_case_plots
from launch.sweep.planning import Planned
from launch.sweep.record import Group, Line
from launch.sweep.seeds import OverSeeds, over_seeds
from launch.sweep.table import difference, p_text, share, spread

Measures = Mapping[str, Mapping[str, float]]


def build_sweep_page(
    folder: Path,
    title: str,
    runs: Sequence[Planned],
    groups: Sequence[Group],
    measures: Measures,
    about: dict[str, Any],
) -> Path:
    """The path of ``folder/index.html``, written whole.

    Args:
        folder: of the sweep.
        title: kind and recipe.
        runs: all of them.
        groups: what the finished ones say.
        measures: of priors.
        about: ``command``, and under ``states`` why runs did not finish, by name.
    """
    states: Mapping[str, str] = about["states"]
    unfinished = [(plain(run.name), plain(states[run.name])) for run in runs if states[run.name] != "done"]
    page = render(
        "sweep.html.j2",
        style=style("style.css", "scorecard.css"),
        title=plain(title),
        summary=_summary(runs, unfinished),
        unfinished=unfinished,
        groups=[_shown(group, f"g{i}") for i, group in enumerate(groups)],
        measures=_measures(runs, measures),
        command=plain(about["command"]),
    )
    write_atomically(folder / "index.html", page)
    return folder / "index.html"


def _summary(runs: Sequence[Planned], unfinished: Sequence[object]) -> str:
    swept = runs[0].point.settings
    values = {label: list(dict.fromkeys(run.point.settings[label] for run in runs)) for label in swept}
    told = "; ".join(f"{label} over {', '.join(found)}" for label, found in values.items())
    done = f"{len(runs) - len(unfinished)} of {len(runs)}" if unfinished else f"all {len(runs)}"
    return plain(f"{told}: {done} runs are finished.")


def _shown(group: Group, name: str) -> dict[str, Any]:
    seeds = over_seeds(group.lines)
    several = any(len(one.lines) > 1 for one in seeds)
    return {
        "dataset": plain(group.dataset),
        "defense": plain(group.defense),
        "beside": plain(group.beside),
        "notes": [plain(note) for note in group.notes],
        "lines": [{"name": plain(line.name), "cells": _cells(line, group)} for line in group.lines],
        "seeds": [_seeds(one) for one in seeds] if several else [],
        "plots": [(trusted(svg), label) for svg, label in worst_case_plots(group.lines, name)],
    }


def _cells(line: Line, group: Group) -> list[str]:
    worst = share(line.worst) + (f", {line.caution}" if line.caution else "")
    found = [plain(line.threat), share(line.clean), plain(worst), plain(difference(line, group))]
    test = line.worst_test
    if test is None or line.holm is None:
        return [*found, "–", "–", "–", "–"]
    return [*found, f"{test.test.b:,}", f"{test.test.c:,}", p_text(test.test.p), p_text(line.holm)]


def _seeds(one: OverSeeds) -> tuple[str, list[str]]:
    _, _, low, high = one.spread("worst")
    return plain(one.name), [
        str(len(one.lines)),
        spread(one, "clean"),
        spread(one, "worst"),
        percent(low),
        percent(high),
    ]


def _measures(runs: Sequence[Planned], measures: Measures) -> dict[str, Any] | None:
    names = list(dict.fromkeys(name for values in measures.values() for name in values))
    if not names:
        return None
    rows = [(plain(run), [f"{v[n]:.4g}" if n in v else "–" for n in names]) for run, v in measures.items()]
    drawn = measure_plots(measures, {run.name: run.point.settings for run in runs}, "m")
    return {
        "heads": [plain(name) for name in names],
        "rows": rows,
        "plots": [(trusted(svg), label) for svg, label in drawn],
    }
