"""What a run of a protocol was meant to do, and what came of it: ``protocol.json`` and ``protocol.csv``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from configs.files import ConfigError, write_atomically
from eval.plain_text import cell

FILE = "protocol.json"


@dataclass(frozen=True)
class StepRecord:
    """An evaluation of the protocol: its folder, part, kind, threat, sets, and the attacks in it."""

    folder: str
    part: str
    kind: str
    norm: str
    eps: float
    sets: list[str]


@dataclass(frozen=True)
class PartRecord:
    """A part of the protocol: its name, all of its sets, the names of its attacks, and whether it has an average."""

    name: str
    sets: list[str]
    attacks: list[str]
    average: bool


@dataclass(frozen=True)
class Beside:
    """A published number: as printed with its mark, of which system, who reports it, where it was read."""

    text: str
    system: str
    paper: str
    source: str
    verified: str


@dataclass(frozen=True)
class Line:
    """One number of ours, with what was published.

    Attributes:
        part: of the protocol.
        dataset: name of the set, or ``average``.
        defense: name; ``none`` for the bare encoder.
        norm: of the threat the line belongs to.
        eps: its radius in [0, 1] pixels.
        column: ``clean``, ``clean_attacked`` (clean, of the attacked images), an attack's name, ``worst`` (of the
            protocol's attacks) or ``worst_adaptive`` (of all attacks that we add).
        view: whose gradient the attacker followed.
        n: images.
        value: share of right images.
        low: lower end of its 95 % interval.
        high: upper end.
        qualifier: what it must be read with.
        artefact: a label that forbids reading it as robustness.
        over: for an average, the sets; else empty.
        published: beside it.
    """

    part: str
    dataset: str
    defense: str
    norm: str
    eps: float
    column: str
    view: str
    n: int
    value: float
    low: float
    high: float
    qualifier: str = ""
    artefact: str = ""
    over: list[str] = field(default_factory=list)
    published: list[Beside] = field(default_factory=list)


@dataclass(frozen=True)
class DoubtLine:
    """Doubts about a defence on a set: (name, severity, text); ``examined`` says whether its gradients were."""

    part: str
    dataset: str
    defense: str
    norm: str
    eps: float
    examined: bool
    doubts: list[list[str]]


@dataclass(frozen=True)
class Record:
    """A run of a protocol.

    Attributes:
        name: of the protocol.
        label: with its hash; stands in every row.
        title: for people.
        source: whose protocol it is.
        encoder: display name.
        model: name and tag of the base model.
        checkpoint: file name of its weights; empty for the base's own.
        systems: how published tables call what was judged, by defence.
        precision, batch, resolution, templates: of what was published, in words.
        changed: settings that are not the protocol's.
        differs: what is otherwise here.
        unknown: what nobody knows.
        parts: all of them, with all of their sets.
        missing: (part, set, why) of the sets that were left out.
        steps: the evaluations.
        known: systems with published numbers of this model.
        unplaced: published numbers that say too little to stand beside any of ours.
        lines: the numbers.
        doubts: about the defences.
    """

    name: str
    label: str
    title: str
    source: str
    encoder: str
    model: list[str]
    checkpoint: str
    systems: dict[str, list[str]]
    precision: str
    batch: str
    resolution: str
    templates: str
    changed: list[str]
    differs: list[str]
    unknown: list[str]
    parts: list[PartRecord]
    missing: list[list[str]]
    steps: list[StepRecord]
    known: list[str] = field(default_factory=list)
    unplaced: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    doubts: list[DoubtLine] = field(default_factory=list)


def has_record(folder: Path) -> bool:
    """Whether a folder is of a protocol's run."""
    return (folder / FILE).is_file()


def write_record(folder: Path, record: Record) -> None:
    """Write ``protocol.json`` and, with numbers, ``protocol.csv``, each whole or not at all."""
    write_atomically(folder / FILE, json.dumps(asdict(record), indent=1, ensure_ascii=False))
    if record.lines:
        write_atomically(folder / "protocol.csv", _csv(record.lines))


def _csv(lines: Sequence[Line]) -> str:
    buffer = io.StringIO()
    names = [name for name in asdict(lines[0]) if name not in ("over", "published")]
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*names, "over", "published", "published_system", "published_by", "verified"])
    for line in lines:
        values = [getattr(line, name) for name in names] + [" ".join(line.over)]
        for one in line.published or [None]:
            told = [one.text.rstrip("²"), one.system, f"{one.paper}: {one.source}", one.verified] if one else [""] * 4
            writer.writerow([cell(value) for value in (*values, *told)])
    return buffer.getvalue()


def read_record(folder: Path) -> Record:
    """The record of a protocol's run.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        raise ConfigError(f"no {FILE} in {folder}; run a protocol there first")
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        content["parts"] = [PartRecord(**one) for one in content["parts"]]
        content["steps"] = [StepRecord(**one) for one in content["steps"]]
        content["doubts"] = [DoubtLine(**one) for one in content["doubts"]]
        content["lines"] = [
            Line(**{**one, "published": [Beside(**other) for other in one["published"]]}) for one in content["lines"]
        ]
        return Record(**content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{file} is damaged ({error}); start the protocol again") from error
