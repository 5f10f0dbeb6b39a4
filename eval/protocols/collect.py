"""The evaluations of a protocol become one record: lines with published numbers beside, averages, doubts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from configs.files import write_atomically
from eval.merge import PREFIX, merge, shards_in
from eval.outcomes import read_header
from eval.protocols.health import doubts_of, read_health
from eval.protocols.plan import BARE
from eval.protocols.published import AVERAGE, CLEAN, beside
from eval.protocols.record import Beside, DoubtLine, Line, PartRecord, Record, StepRecord, write_record
from eval.results import WORST, Result, read_results, write_csv, write_results
from eval.stats import Estimate, average_of
from eval.tables import CLEAN as CLEAN_METRIC
from eval.tables import ROBUST

CLEAN_ATTACKED, WORST_ADAPTIVE = "clean_attacked", "worst_adaptive"
OF_OURS = (CLEAN_ATTACKED, WORST, WORST_ADAPTIVE)
"""Columns that nobody published."""
_OTHER_COUNT = re.compile(r"\b[\d,]+ (images|classes)\b.* where \S+ has [\d,]+")


def collect(folder: Path, record: Record) -> Record:
    """The record with its numbers, written to the run's folder beside all rows and the names of attacked images.

    Args:
        folder: of the run.
        record: what it was meant to do.

    Raises:
        ConfigError: an evaluation is not finished, or a file is damaged.
    """
    rows: list[Result] = []
    lines: list[Line] = []
    for step in record.steps:
        place = folder / step.folder
        if shards_in(place):
            merge(shards_in(place), place)
        found = read_results(place / "results.jsonl")
        rows += found
        lines += _lines(record, step, found)
        _write_ids(folder, place, step)
    lines = [_beside(record, line) for line in lines]
    for part in record.parts:
        lines += _averages(record, part, [line for line in lines if line.part == part.name])
    record = replace(record, lines=_sorted(record, lines), doubts=_doubts(folder, record))
    write_results(folder / "results.jsonl", rows)
    write_csv(folder / "results.csv", rows)
    write_record(folder, record)
    return record


def _lines(record: Record, step: StepRecord, rows: Sequence[Result]) -> list[Line]:
    split = any(other.kind == "clean" and other.part == step.part for other in record.steps)
    radii = sorted({other.eps for other in record.steps if other.part == step.part and other.kind == "attacked"})
    found = []
    for row in rows:
        column = _column(step, row, split)
        if column is None:
            continue
        for eps in radii if step.kind == "clean" else [step.eps]:
            found.append(
                Line(
                    *(step.part, row.dataset, row.defense, step.norm, eps, column, row.view),
                    *(row.n, row.value, row.low, row.high, row.qualifier, row.artefact),
                )
            )
    return found


def _column(step: StepRecord, row: Result, split: bool) -> str | None:
    """Under which heading a row stands; None for rows that the table leaves out."""
    if row.metric == CLEAN_METRIC:
        return None if step.kind == "adaptive" else CLEAN if step.kind == "clean" or not split else CLEAN_ATTACKED
    if row.metric != ROBUST or row.eps != step.eps:
        return None
    if row.attack == WORST:
        return WORST_ADAPTIVE if step.kind == "adaptive" else WORST
    return None if step.kind == "adaptive" else row.attack


def _beside(record: Record, line: Line) -> Line:
    if line.column in OF_OURS or line.norm != "linf":
        return line
    model = (record.model[0], record.model[1])
    eps = 0.0 if line.column == CLEAN else line.eps
    found = beside(record.name, record.systems.get(line.defense, []), model, line.dataset, eps, line.column)
    told = [Beside(one.text, one.system, one.paper, one.source, one.verified) for one in found]
    return replace(line, published=told)


def whole(line: Line) -> bool:
    """Whether a line's set has as many images and classes as the catalog expects."""
    return not _OTHER_COUNT.search(line.qualifier)


def _averages(record: Record, part: PartRecord, lines: Sequence[Line]) -> list[Line]:
    """The unweighted averages of a part; published ones stand beside them only where all sets are there, whole."""
    if not part.average:
        return []
    groups: dict[tuple[str, str, float, str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.defense, line.norm, line.eps, line.column, line.view), []).append(line)
    judged = {line.dataset for line in lines}
    found = []
    for (defense, norm, eps, column, view), mine in groups.items():
        if {line.dataset for line in mine} != judged:
            continue  # an attack that not every set has
        value, low, high = average_of([Estimate(line.value, line.low, line.high) for line in mine])
        average = Line(
            *(part.name, AVERAGE, defense, norm, eps, column, view),
            *(sum(line.n for line in mine), value, low, high),
            artefact="; ".join(dict.fromkeys(line.artefact for line in mine if line.artefact)),
            over=[line.dataset for line in mine],
        )
        complete = judged == set(part.sets) and all(map(whole, mine))
        found.append(_beside(record, average) if complete else average)
    return found


def _sorted(record: Record, lines: Sequence[Line]) -> list[Line]:
    """Lines in the order of parts, radii, defences and sets; averages last."""
    sets = {part.name: [*part.sets, AVERAGE] for part in record.parts}
    parts, defenses = list(sets), list(record.systems)
    return sorted(
        lines,
        key=lambda line: (
            *(parts.index(line.part), line.eps, defenses.index(line.defense)),
            sets[line.part].index(line.dataset),
        ),
    )


def _doubts(folder: Path, record: Record) -> list[DoubtLine]:
    """Doubts about every defence on every set: by the attacks through it, or where there are none by those past it."""
    through = {(step.part, step.eps) for step in record.steps if step.kind == "adaptive"}
    found = []
    for step in record.steps:
        added = (step.part, step.eps) in through
        if step.kind == "clean" or (added and step.kind != "adaptive"):
            continue
        place = folder / step.folder
        health = read_health(place)
        for dataset in step.sets:
            for defense in record.systems:
                if defense == BARE:
                    continue
                told = [[one.name, one.severity, one.text] for one in doubts_of(place, dataset, defense)]
                examined = defense in health.get(dataset, {})
                found.append(DoubtLine(step.part, dataset, defense, step.norm, step.eps, examined, told))
    return found


def _write_ids(folder: Path, place: Path, step: StepRecord) -> None:
    """The names of the images that were attacked, one file for each set: a list that ``ids`` takes."""
    if step.kind != "attacked":
        return
    for dataset in step.sets:
        keys = read_header(place / f"{PREFIX}{dataset}.json")["keys"]
        write_atomically(folder / f"ids-{step.part}-{dataset}.txt", "".join(f"{key}\n" for key in keys))
