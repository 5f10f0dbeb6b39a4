"""What a run folder holds, read and checked; whatever is wrong becomes one line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any

from configs.files import ConfigError
from eval.prior_record import Curve, PriorRecord, has_record, read_curves, read_record
from eval.protocols.record import Record
from eval.protocols.record import has_record as of_protocol
from eval.protocols.record import read_record as read_protocol
from eval.results import Result, read_results
from eval.speed import Speed, read_speed
from eval.tables import plain
from eval.traps.record import Findings, read_findings

_OF_EVALUATIONS = ("results.jsonl", "results.csv", "notes.json", "examples.json")


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        folder: where it lies.
        label: its last two folder names, e.g. ``fare_tiny/2025-01-01``.
        rows: the numbers, their text free of control characters.
        config: the resolved configuration as text.
        environment: versions, seed, command, seconds per phase.
        curves: (step, value) of every number that its training told; empty if the run did not train.
        notes: paragraphs written by the evaluation.
        examples: descriptions of example pictures.
        prior: what a prior's training left; None of other runs.
        protocol: what a protocol's run left; None of other runs.
        speed: what benchmarks found; None of other runs.
        traps: what was found about traps; None of other runs.
    """

    folder: Path
    label: str
    rows: list[Result]
    config: str
    environment: dict[str, Any]
    curves: dict[str, Curve] = field(default_factory=dict)
    notes: list[dict[str, Any]] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)
    prior: PriorRecord | None = None
    protocol: Record | None = None
    speed: Speed | None = None
    traps: Findings | None = None


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Every run, with encoders told apart where two runs disagree on one number.

    Raises:
        ConfigError: no folder was given, or one lacks a file or holds an invalid one.
    """
    if not folders:
        raise ConfigError("no run to report on; give at least one run folder")
    runs = [read_run(Path(folder)) for folder in dict.fromkeys(folders)]
    values: dict[tuple[object, ...], float] = {}
    disputed: set[str] = set()
    for run in runs:
        for row in run.rows:
            if values.setdefault(_identity(row), row.value) != row.value:
                disputed.add(row.encoder)
    return [_told_apart(run, disputed) for run in runs]


def _told_apart(run: Run, disputed: set[str]) -> Run:
    def rename(encoder: str) -> str:
        return f"{encoder} ({run.label})" if encoder in disputed else encoder

    rows = [replace(r, encoder=rename(r.encoder)) for r in run.rows]
    examples = [{**e, "encoder": rename(e["encoder"])} for e in run.examples]
    return replace(run, rows=rows, examples=examples)


def merged(runs: Sequence[Run]) -> list[Result]:
    """The rows of all runs, each number once."""
    rows: dict[tuple[object, ...], Result] = {}
    for run in runs:
        for row in run.rows:
            rows.setdefault(_identity(row), row)
    return list(rows.values())


def _identity(row: Result) -> tuple[object, ...]:
    place = (row.task, row.dataset, row.encoder, row.step, row.defense)
    return (*place, row.attack, row.view, row.norm, row.eps, row.metric)


def read_run(folder: Path) -> Run:
    """One run folder.

    Raises:
        ConfigError: it is missing, lacks a file, holds an invalid one, or contradicts itself.
    """
    if not folder.is_dir():
        raise ConfigError(f"no run folder at {folder}; give a folder that holds results.jsonl")
    prior = read_record(folder) if has_record(folder) else None
    curves = {**read_curves(folder / "metrics.csv"), **read_curves(folder / "perf.csv")}
    protocol = read_protocol(folder) if of_protocol(folder) else None
    speed, traps = read_speed(folder), read_findings(folder)
    evaluated = any((folder / name).exists() for name in _OF_EVALUATIONS)
    apart = bool(curves) or speed is not None or traps is not None
    bare = prior is not None or protocol is not None or (apart and not evaluated)
    rows = [] if bare else [_clean(r, folder) for r in read_results(folder / "results.jsonl")]
    if not rows and not bare:
        raise ConfigError(f"{folder / 'results.jsonl'} holds no row; run an evaluation first")
    values: dict[tuple[object, ...], float] = {}
    for row in rows:
        if values.setdefault(_identity(row), row.value) != row.value:
            raise ConfigError(
                f"{folder / 'results.jsonl'} holds two values for {row.encoder} {row.key} at step "
                f"{row.step}; name the encoders apart"
            )
    resolved = folder.resolve()
    return Run(
        folder,
        plain(f"{resolved.parent.name}/{resolved.name}".strip("/")),
        rows,
        plain(_text(folder / "config.yaml"), keep_lines=True),
        _environment(folder / "env.json"),
        curves,
        _notes(folder / "notes.json"),
        read_examples(folder / "examples.json"),
        prior,
        protocol,
        speed,
        traps,
    )


def _clean(row: Result, folder: Path) -> Result:
    for name in ("n", "step", "eps", "value", "low", "high", "seconds"):
        number = getattr(row, name)
        if isinstance(number, bool) or not isinstance(number, int | float) or not isfinite(number):
            where = f"{folder / 'results.jsonl'}, {row.key}"
            raise ConfigError(f"{where}: {name} is {number!r}; it must be a finite number")
    names = [f.name for f in fields(row) if f.type in ("str", str)]
    changes: dict[str, Any] = {name: plain(getattr(row, name)) for name in names}
    return replace(row, **changes)


def _text(path: Path) -> str:
    if not path.is_file():
        raise ConfigError(f"no {path.name} in {path.parent}; is it the folder of a finished run?")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text; write it anew") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from error


def _environment(path: Path) -> dict[str, Any]:
    found = _json(path)
    if not isinstance(found, dict):
        raise ConfigError(f"{path} must hold one JSON object with versions, seed and command")
    for name in ("versions", "phases"):
        if not isinstance(found.setdefault(name, {}), dict):
            raise ConfigError(f"{path}: {name} must be an object of names and values")
    times = {"seconds": found.get("seconds") or 0}
    times |= {f"phases.{plain(name)}": seconds for name, seconds in found["phases"].items()}
    for name, seconds in times.items():
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise ConfigError(f"{path}: {name} must be a number of seconds")
    return {"command": "", "seed": "", "started": "", "seconds": None, **found}


def _listed(path: Path, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    found = _json(path)
    if not isinstance(found, list):
        raise ConfigError(f"{path} must hold a list")
    for number, entry in enumerate(found):
        missing = [k for k in keys if not isinstance(entry, dict) or k not in entry]
        if missing:
            raise ConfigError(f"{path}: entry {number} lacks {', '.join(missing)}")
    return [{k: plain(v) if isinstance(v, str) else v for k, v in e.items()} for e in found]


def read_examples(path: Path) -> list[dict[str, Any]]:
    """The descriptions of example pictures in a file; none where it is missing.

    Raises:
        ConfigError: the file is damaged.
    """
    entries = _listed(path, ("encoder", "defense", "attack", "file", "prefix", "label"))
    for number, entry in enumerate(entries):
        for name in ("label", "prediction_clean", "prediction_adversarial", "prediction_purified"):
            labels = entry.get(name)
            if labels is not None and not (isinstance(labels, list) and all(type(label) is int for label in labels)):
                raise ConfigError(f"{path}: entry {number}: {name} must be a list of class numbers")
        if not isinstance(entry.get("eps", 0.0), int | float):
            raise ConfigError(f"{path}: entry {number}: eps must be a number")
        if not isinstance(entry.get("classes", []), list):
            raise ConfigError(f"{path}: entry {number}: classes must be a list of names")
    return entries


def _notes(path: Path) -> list[dict[str, Any]]:
    notes = _listed(path, ("title", "text"))
    for note in notes:
        shape = note.get("histogram")
        if shape is None:
            continue
        try:
            first, second = shape["values"]
            note["histogram"] = {
                **shape,
                "values": [[float(v) for v in first], [float(v) for v in second]],
                "labels": [plain(label) for label in shape["labels"]],
            }
            sound = len(shape["labels"]) == 2 and first and second and all(map(isfinite, first + second))
        except (KeyError, TypeError, ValueError):
            sound = False
        if not sound:
            raise ConfigError(f"{path}: histogram of {note['title']!r} needs two labels and two lists of numbers")
    return notes
