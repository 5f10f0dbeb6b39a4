"""A protocol's lines as tables, one for each part, radius and defence: for the terminal and for pages alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.protocols.collect import CLEAN_ATTACKED, WORST_ADAPTIVE, whole
from eval.protocols.places import UNASKED
from eval.protocols.published import AVERAGE, CLEAN
from eval.protocols.record import DoubtLine, Line, PartRecord, Record
from eval.results import WORST
from eval.tables import threat_name

HEADINGS = {
    CLEAN: "clean",
    CLEAN_ATTACKED: "clean, of the attacked",
    WORST: "worst of these",
    WORST_ADAPTIVE: "worst adaptive (ours)",
}


@dataclass(frozen=True)
class TableRow:
    """A set, or the average: a line for each column (None where there is none), and what is doubted."""

    name: str
    lines: list[Line | None]
    health: str
    severity: str
    notes: list[str]


@dataclass(frozen=True)
class ProtocolTable:
    """One part, radius and defence.

    Attributes:
        part: of the protocol.
        threat: e.g. ``ℓ∞ 4/255``.
        defense: name.
        columns: headings.
        rows: one for each set, and the average.
        words: what must be said under it.
    """

    part: str
    threat: str
    defense: str
    columns: list[str]
    rows: list[TableRow]
    words: list[str]


def tables_of(record: Record) -> list[ProtocolTable]:
    """Every table of a record, in order."""
    found = []
    for part in record.parts:
        mine = [line for line in record.lines if line.part == part.name]
        for norm, eps in dict.fromkeys((line.norm, line.eps) for line in mine):
            for defense in record.systems:
                lines = [line for line in mine if (line.norm, line.eps, line.defense) == (norm, eps, defense)]
                if lines:
                    found.append(_table(record, part, lines))
    return found


def _table(record: Record, part: PartRecord, lines: Sequence[Line]) -> ProtocolTable:
    norm, eps, defense = lines[0].norm, lines[0].eps, lines[0].defense
    keys = sorted(dict.fromkeys((line.column, line.view) for line in lines), key=_place)
    several = {column for column, _ in keys if sum(other == column for other, _ in keys) > 1}
    rows = []
    for name in dict.fromkeys(line.dataset for line in lines):
        of = {(line.column, line.view): line for line in lines if line.dataset == name}
        here = (part.name, name, defense, norm, eps)
        doubt = next((d for d in record.doubts if (d.part, d.dataset, d.defense, d.norm, d.eps) == here), None)
        health, severity = _health(defense, name, doubt)
        rows.append(TableRow(name, [of.get(key) for key in keys], health, severity, _notes(list(of.values()))))
    return ProtocolTable(
        part=part.name,
        threat=threat_name(norm, eps),
        defense=defense,
        columns=[HEADINGS.get(column, f"{column}, {view}" if column in several else column) for column, view in keys],
        rows=rows,
        words=_words(record, part, lines),
    )


def _place(key: tuple[str, str]) -> int:
    order = [CLEAN, CLEAN_ATTACKED, "", WORST, WORST_ADAPTIVE]
    return order.index(key[0]) if key[0] in order else order.index("")


def _health(defense: str, name: str, doubt: DoubtLine | None) -> tuple[str, str]:
    """What a defence's gradients are worth, and how bad that is."""
    if defense == "none" or name == AVERAGE:
        return "", ""
    if doubt is None or not doubt.examined:
        return "not examined", "red"
    if not doubt.doubts:
        return "sound", ""
    severity = "red" if any(one[1] == "red" for one in doubt.doubts) else "amber"
    return f"{severity}: {', '.join(one[0] for one in doubt.doubts if one[1] == severity)}", severity


def _notes(lines: Sequence[Line]) -> list[str]:
    return list(dict.fromkeys(text for line in lines for text in (line.qualifier, line.artefact) if text))


def _words(record: Record, part: PartRecord, lines: Sequence[Line]) -> list[str]:
    """What is missing, what an average is over, and what forbids reading a number as robustness."""
    said = []
    judged = [name for name in part.sets if any(line.dataset == name for line in lines)]
    absent = [name for name in part.sets if name not in judged]
    if part.average and absent:
        said.append(f"The average is over {len(judged)} of {len(part.sets)} sets; missing: {', '.join(absent)}.")
    elif absent:
        said.append(f"Missing: {', '.join(absent)}.")
    short = list(dict.fromkeys(line.dataset for line in lines if not whole(line)))
    if part.average and short:
        said.append(f"Not whole, so that no published average stands beside: {', '.join(short)}.")
    if lines[0].defense != "none":
        if not any(line.column == WORST_ADAPTIVE for line in lines):
            said.append("Nobody attacked through this defence: no number here says how robust it is.")
        labels = dict.fromkeys(line.artefact for line in lines if line.artefact)
        said += [f"Artefact: {label}; never to be read as robustness." for label in labels]
    return said


def subject_of(record: Record) -> str:
    """What was judged, in words."""
    model = " ".join(filter(None, record.model))
    return f"{record.encoder} ({record.checkpoint + ', ' if record.checkpoint else ''}{model})"


def remarks(record: Record) -> list[tuple[str, list[str]]]:
    """(heading, lines) of what must be read with the tables; headings without lines are left out."""
    facts = (
        *(("precision", record.precision), ("batch", record.batch), ("resolution", record.resolution)),
        ("templates", record.templates),
    )
    published = f"{', '.join(record.known)}" if record.known else ""
    unmatched = not any(line.published for line in record.lines)
    missing = [f"{name} ({part}): {why}" for part, name, why in record.missing if why != UNASKED]
    left = [name for _, name, why in record.missing if why == UNASKED]
    found = [
        ("Left out", [*missing, *([f"{UNASKED}: {', '.join(dict.fromkeys(left))}"] if left else [])]),
        ("As published", [f"{key}: {text}" for key, text in facts if text]),
        ("Otherwise here", record.differs),
        ("Unknown", record.unknown),
        (
            "Published for this model, beside none of these numbers",
            [f"{published}; say system=NAME where these weights are one of them"] if published and unmatched else [],
        ),
        ("Published, but saying too little to stand beside a number", record.unplaced),
    ]
    return [(heading, lines) for heading, lines in found if lines]
