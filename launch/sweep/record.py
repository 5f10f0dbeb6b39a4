"""What the finished runs of a sweep say, side by side: shares with intervals, and exact tests on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs.files import ConfigError
from eval.compare import Comparison
from eval.prior_record import has_record, read_record
from eval.results import Result, read_results
from eval.tables import HeadlineRow, headline, plain, threat_name
from launch.comparison import compare_runs
from launch.sweep.planning import Planned

FIRST, BEST = "first", "best"


@dataclass(frozen=True)
class Line:
    """One run on one data set behind one defence.

    Attributes:
        name: of the run.
        settings: label -> value, of the swept keys.
        folder: of its evaluation.
        dataset, defense: names.
        threat: e.g. ``ℓ∞ 4/255``.
        clean: without an attack.
        worst: the per-image worst case.
        caution: why the worst case is no robustness.
        beside: the run that it is compared with; empty of that run itself, and where it cannot be compared.
        clean_test, worst_test: this run beside that one.
        holm: p of the worst case's test, corrected for as many tests as the table has.
        why_not: why it is not compared.
    """

    name: str
    settings: dict[str, str]
    folder: Path
    dataset: str
    defense: str
    threat: str
    clean: Result
    worst: Result
    caution: str = ""
    beside: str = ""
    clean_test: Comparison | None = None
    worst_test: Comparison | None = None
    holm: float | None = None
    why_not: str = ""


@dataclass(frozen=True)
class Group:
    """The lines of one data set and defence.

    Attributes:
        dataset, defense: names.
        lines: in the order of the runs.
        beside: the run that the others are compared with.
        notes: what the tests must be read with.
    """

    dataset: str
    defense: str
    lines: list[Line]
    beside: str
    notes: list[str]


def read_groups(runs: Sequence[Planned], against: str = FIRST) -> list[Group]:
    """The finished runs in groups that can be compared.

    Args:
        runs: of the sweep; those without numbers are left out.
        against: ``first``, ``best`` (the highest worst case), or the name of a run.

    Raises:
        ConfigError: no run of that name, or damaged results.
    """
    if against not in (FIRST, BEST, *(run.name for run in runs)):
        raise ConfigError(f"--against {against}: no run has this name; say first, best or {runs[0].name}")
    lines: dict[tuple[str, str], list[Line]] = {}
    for run in runs:
        if run.finished and (run.results / "results.jsonl").is_file():
            for line in _lines(run):
                lines.setdefault((line.dataset, line.defense), []).append(line)
    return [_group(found, against) for found in lines.values()]


def _lines(run: Planned) -> list[Line]:
    rows = read_results(run.results / "results.jsonl")
    found = [row for row in headline(rows) if row.worst and row.clean]
    return [_line(run, row, row.clean, row.worst) for row in found if row.clean and row.worst]


def _line(run: Planned, row: HeadlineRow, clean: Result, worst: Result) -> Line:
    return Line(
        name=run.name,
        settings=run.point.settings,
        folder=run.results,
        dataset=plain(row.dataset),
        defense=plain(row.defense),
        threat=threat_name(plain(row.norm), row.eps),
        clean=clean,
        worst=worst,
        caution=row.caution,
    )


def _group(lines: list[Line], against: str) -> Group:
    reference = _reference(lines, against)
    if reference is None:
        note = f"{against} has no numbers here, so that nothing is compared"
        return Group(lines[0].dataset, lines[0].defense, lines, "", [note])
    notes: dict[str, None] = {}
    compared = [line if line is reference else _compared(line, reference, notes) for line in lines]
    return Group(reference.dataset, reference.defense, _corrected(compared), reference.name, list(notes))


def _reference(lines: Sequence[Line], against: str) -> Line | None:
    if against == FIRST:
        return lines[0]
    if against == BEST:
        return max(lines, key=lambda line: line.worst.value)
    return next((line for line in lines if line.name == against), None)


def _compared(line: Line, reference: Line, notes: dict[str, None]) -> Line:
    """The line with its tests, as ``robustclip compare`` has them."""
    if line.threat != reference.threat:
        notes[
            f"runs that were attacked inside another ball than {reference.name} ({reference.threat}) are not tested"
        ] = None
        return replace(line, why_not="another threat")
    try:
        found = compare_runs(line.folder, reference.folder, line.defense)
        versus = next(versus for versus in found if versus.first.dataset == line.dataset)
    except (ConfigError, StopIteration) as error:
        why = str(error) or "no images of both"
        notes[f"{line.name} is not tested: {why}"] = None
        return replace(line, why_not="not the same images")
    for caution in versus.cautions:
        notes[caution] = None
    return replace(line, beside=reference.name, clean_test=versus.clean, worst_test=versus.worst)


def _corrected(lines: list[Line]) -> list[Line]:
    tested = [(i, line.worst_test.test.p) for i, line in enumerate(lines) if line.worst_test]
    for (i, _), p in zip(tested, holm([p for _, p in tested]), strict=True):
        lines[i] = replace(lines[i], holm=p)
    return lines


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's correction: values of p that may be read side by side without more false alarms than one would give."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    found, reached = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        reached = max(reached, min(1.0, (len(ps) - rank) * ps[i]))
        found[i] = reached
    return found


def read_measures(runs: Sequence[Planned]) -> dict[str, dict[str, float]]:
    """What priors said of themselves last: run -> name -> value, of the finished ones."""
    found = {}
    for run in runs:
        if run.finished and has_record(run.results):
            record = read_record(run.results)
            found[run.name] = record.last("val/") or record.last("train/loss")
    return found
