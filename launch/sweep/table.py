"""A sweep as tables: for the terminal, and as ``sweep.csv``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from configs.files import write_atomically
from eval.plain_text import cell, plain
from eval.results import Result
from eval.tables import percent, points
from launch.sweep.planning import Planned
from launch.sweep.record import Group, Line
from launch.sweep.seeds import OverSeeds

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = (
    *("dataset", "defense", "threat", "images", "clean", "clean_low", "clean_high", "worst", "worst_low", "worst_high"),
    *("against", "clean_difference", "worst_difference", "difference_low", "difference_high"),
    *("only_this", "only_that", "mcnemar_p", "holm_p", "caution"),
)


def terminal_group(group: Group) -> Table:
    """One data set and defence for the terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    behind = "" if group.defense == "none" else f" behind {group.defense}"
    threats = list(dict.fromkeys(line.threat for line in group.lines))
    title = f"{group.dataset}{behind}, {' and '.join(threats)}: accuracy in %, 95 % interval"
    table = Table(title=Text(plain(title)), box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("run", overflow="fold")
    for head in ("clean", "worst", f"beside {group.beside}", "McNemar\np (Holm)"):
        table.add_column(Text(plain(head, keep_lines=True)), justify="right", overflow="fold")
    for line in group.lines:
        beside = Text(plain(difference(line, group)))
        table.add_row(Text(plain(line.name)), share(line.clean), share(line.worst), beside, p_of(line, group))
    return table


def share(result: Result) -> str:
    """``57.0 (47.1–66.4)``."""
    return f"{percent(result.value)} ({percent(result.low)}–{percent(result.high)})"


def difference(line: Line, group: Group) -> str:
    """How much more often than the run beside it a run is right under attack, in points."""
    if line.worst_test is None:
        return "–" if line.name == group.beside else line.why_not or "–"
    value, low, high = line.worst_test.difference
    return f"{points(value)} ({points(low)} to {points(high)})"


def p_of(line: Line, group: Group) -> str:
    """p of McNemar's test, and corrected for the number of tests."""
    if line.worst_test is None or line.holm is None:
        return "–"
    return f"{p_text(line.worst_test.test.p)} ({p_text(line.holm)})"


def p_text(p: float) -> str:
    """``0.031``, ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def terminal_seeds(group: Group, found: Sequence[OverSeeds]) -> Table:
    """Mean and standard deviation over seeds for the terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{plain(group.dataset)}: mean ± standard deviation over seeds, %")
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for head in ("setting", "seeds", "clean", "worst"):
        table.add_column(head, justify="left" if head == "setting" else "right", overflow="fold")
    for one in found:
        table.add_row(Text(plain(one.name)), str(len(one.lines)), spread(one, "clean"), spread(one, "worst"))
    return table


def spread(one: OverSeeds, what: str) -> str:
    """``57.0 ± 1.2``; without a spread where there is one run."""
    mean, deviation, *_ = one.spread(what)
    return f"{percent(mean)} ± {percent(deviation)}" if len(one.lines) > 1 else percent(mean)


def terminal_measures(measures: Mapping[str, Mapping[str, float]]) -> Table:
    """What priors said of themselves, for the terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    names = list(dict.fromkeys(name for values in measures.values() for name in values))
    table = Table(title="last validation", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("run", overflow="fold")
    for name in names:
        table.add_column(Text(name.removeprefix("val/")), justify="right", overflow="fold")
    for run, values in measures.items():
        table.add_row(Text(run), *(f"{values[name]:.4g}" if name in values else "–" for name in names))
    return table


def write_table(
    file: Path,
    runs: Sequence[Planned],
    groups: Sequence[Group],
    measures: Mapping[str, Mapping[str, float]],
    states: Mapping[str, str],
) -> None:
    """Write ``sweep.csv``: a row for each run, data set and defence, or one where a run has no numbers."""
    labels = list(runs[0].point.settings)
    names = list(dict.fromkeys(name for values in measures.values() for name in values))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ["run", "state", *labels, *_COLUMNS, *names], restval="", lineterminator="\n")
    writer.writeheader()
    for run in runs:
        lines = [line for group in groups for line in group.lines if line.name == run.name]
        fixed = {"run": cell(run.name), "state": cell(states[run.name]), **_typed(run.point.settings)}
        for line in lines or [None]:
            writer.writerow({**fixed, **(_cells(line) if line else {}), **measures.get(run.name, {})})
    write_atomically(file, buffer.getvalue())


def _typed(settings: Mapping[str, str]) -> dict[str, object]:
    """Typed values; numbers stay numbers."""
    from launch.sweep.drawing import number_of

    return {label: value if number_of(value) is not None else cell(value) for label, value in settings.items()}


def _cells(line: Line) -> dict[str, object]:
    found: dict[str, object] = {
        **{"dataset": cell(line.dataset), "defense": cell(line.defense), "threat": cell(line.threat)},
        "images": line.worst.n,
        **{"clean": line.clean.value, "clean_low": line.clean.low, "clean_high": line.clean.high},
        **{"worst": line.worst.value, "worst_low": line.worst.low, "worst_high": line.worst.high},
        **{"against": cell(line.beside), "caution": cell(line.caution or line.why_not)},
    }
    if line.worst_test is not None and line.clean_test is not None:
        test = line.worst_test
        found |= {"clean_difference": line.clean_test.difference.value, "worst_difference": test.difference.value}
        found |= {"difference_low": test.difference.low, "difference_high": test.difference.high}
        found |= {"only_this": test.test.b, "only_that": test.test.c, "mcnemar_p": test.test.p, "holm_p": line.holm}
    return found
